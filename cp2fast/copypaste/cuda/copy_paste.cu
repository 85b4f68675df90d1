// Copy-paste on an NVIDIA GPU: from decoded photos to composed pairs, in three kernels.
//
//     plan        cuts the views into items of work, the heaviest first
//     mean_luma   an item: some rows of a view          -> luma of its pixels before contrast
//     compose     an item: a tile of one layer          -> its pixels and mask
//
// A warp resizes 16 x 16 pixels at a time by products of matrices on tensor cores (resize.cuh) and
// adjusts their colours in float32 in the accumulators. A view without a blur is stored from there; with
// one it is kept in shared memory as float16 planes of the whole tile, and blurred by the same products.
// Where all that comes before contrast is linear, its mean is a weighted sum of source pixels.
//
// As many blocks as are resident take items in turn: a block for each tile would be held up by the tiles
// of large photos. A block is four warps. On compute capability 9.0 and 10.0 four blocks of compose, 128
// registers a thread and 48 KiB of shared memory each, share a multiprocessor, or five of mean_luma, 96
// registers and 24 KiB. What binds is instructions, and whether they are there: what runs often stays below
// the 32 KiB beyond which warps were seen to wait for them (docs/speed.md).
//
// Every sum has a fixed order, so the bits of a sample depend on nothing else in the batch.

#include "resize.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
constexpr int AREA = 64;       // side of what a block makes at a time, the blur's halo included

// Blocks of compose that shared memory leaves room for on a multiprocessor: 227, 163 or 99 KiB.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900 || __CUDA_ARCH__ / 100 == 10
constexpr int RESIDENT = 4;
#elif __CUDA_ARCH__ == 800 || __CUDA_ARCH__ == 870
constexpr int RESIDENT = 3;
#else
constexpr int RESIDENT = 2;
#endif

enum { BRIGHTNESS, CONTRAST, SATURATION, HUE };
enum { FLOAT32, BFLOAT16, FLOAT16 };

// ---- Colour ---------------------------------------------------------------------------------

// ITU-R BT.601.
DEVICE float luma(float red, float green, float blue) {
  return 0.299f * red + 0.587f * green + 0.114f * blue;
}

// A turn of the hue, in sixths of a turn: where red, green and blue come to lie, each in [-3, 3).
struct Turn {
  float red, green, blue;

  DEVICE Turn(float turns) {
    red = 6.0f * (turns - floorf(turns + 0.5f));
    green = red < 1.0f ? red + 2.0f : red - 4.0f;
    blue = red < -1.0f ? red + 4.0f : red - 2.0f;
  }
};

// Turn the hue of HSV; saturation and value stay. With red at 0, green at 2 and blue at -2, a channel is at its
// highest within 1 of its own hue and at its lowest beyond 2, either way round.
DEVICE void shift_hue(float& red, float& green, float& blue, const Turn& turn) {
  float value = fmaxf(fmaxf(red, green), blue);
  float chroma = value - fminf(fminf(red, green), blue);
  float scale = reciprocal(fmaxf(chroma, 1e-12f));
  float hue = (green - blue) * scale + turn.red;
  hue = green == value ? (blue - red) * scale + turn.green : hue;
  hue = blue == value ? (red - green) * scale + turn.blue : hue;
  red = value - chroma * __saturatef(2.0f - fabsf(fabsf(hue) - 3.0f));
  green = value - chroma * __saturatef(2.0f - fabsf(fabsf(hue - 2.0f) - 3.0f));
  blue = value - chroma * __saturatef(2.0f - fabsf(fabsf(hue + 2.0f) - 3.0f));
}

template <class Adjust>
DEVICE void each_pixel(Colours& colours, Adjust adjust) {
  for (int i = 0; i < 8; ++i)
    adjust(colours.of[0][i / 4][i % 4], colours.of[1][i / 4][i % 4], colours.of[2][i / 4][i % 4]);
}

// Apply the first `count` operations of the jitter; `mean` is the luma for contrast.
DEVICE void jitter(Colours& colours, const View& view, int count, float mean) {
  for (int i = 0; i < count; ++i) {
    int operation = view.flags >> (8 + 2 * i) & 3;
    if (operation == HUE) {
      Turn turn(view.factor(HUE));
      each_pixel(colours, [=](float& r, float& g, float& b) { shift_hue(r, g, b, turn); });
    } else if (operation == SATURATION) {
      float factor = view.factor(SATURATION);
      each_pixel(colours, [=](float& r, float& g, float& b) {
        float base = (1.0f - factor) * luma(r, g, b);
        r = __saturatef(factor * r + base);
        g = __saturatef(factor * g + base);
        b = __saturatef(factor * b + base);
      });
    } else {
      float factor = view.factor(operation);
      float base = operation == CONTRAST ? (1.0f - factor) * mean : 0.0f;
      each_pixel(colours, [=](float& r, float& g, float& b) {
        r = __saturatef(factor * r + base);
        g = __saturatef(factor * g + base);
        b = __saturatef(factor * b + base);
      });
    }
  }
}

// ---- Blur -----------------------------------------------------------------------------------

// Where a unit of 8 pixels lies in a plane of AREA x AREA.
DEVICE int area_unit(int row, int unit) {
  return row * (AREA / 8) + (unit ^ (row % 8));
}

// The Gaussian of whole distances from -radius - 15 to 30 - radius, cut off at the radius: two neighbouring taps an
// entry. A warp makes it in its shared memory.
constexpr int TAPS = 46, TAP_0 = 15;

DEVICE void make_taps(float sigma, int radius, uint32* taps) {
  float exponent = -0.72134752f / (sigma * sigma);  // log2(e) / 2
  auto at = [=](int distance) {
    float d = static_cast<float>(distance);
    return abs(distance) <= radius ? power_of_two(exponent * d * d) : 0.0f;
  };
  __syncwarp();
#pragma unroll 1
  for (int i = lane_number(); i < TAPS; i += WARP) {
    int distance = i - TAP_0 - radius;
    taps[i] = two_float16(at(distance), at(distance + 1));
  }
  __syncwarp();
}

// The blur as operands of mma: output i is in the middle of source pixels i to i + 2 radius. Returns what
// makes the weights sum to 1.
DEVICE float blur_weights(const uint32* taps, uint32 (&a)[2][4], uint32 (&b)[2][2][2]) {
  int lane = lane_number();
  const uint32 *row = taps + TAP_0 + 2 * (lane % 4) - lane / 4;
  const uint32 *column = taps + TAP_0 + 2 * (lane % 4) - column_of(0, lane / 4);
  for (int i = 0; i < 4; ++i) {
    a[i / 2][i % 2 * 2] = row[8 * i], a[i / 2][i % 2 * 2 + 1] = row[8 * i - 8];
    b[i / 2][0][i % 2] = column[8 * i], b[i / 2][1][i % 2] = column[8 * i - 2];
  }
  float sum[4] = {};  // the same for every row, and for every column
  multiply(sum, a[0], ONES, ONES);
  multiply(sum, a[1], ONES, ONES);
  return reciprocal(sum[0] * sum[0]);
}

DEVICE void keep(const Colours& colours, int top, int left, uint4* planes) {
  int lane = lane_number(), unit = left / 8 + lane % 4 / 2;
  for (int channel = 0; channel < 3; ++channel) {
    for (int i = 0; i < 2; ++i) {
      const float(&half)[2][4] = colours.of[channel];
      uint4* to = planes + channel * (AREA * AREA / 8) + area_unit(top + lane / 4 + 8 * i, unit);
      reinterpret_cast<uint2*>(to)[lane % 2] =
          make_uint2(two_float16(half[0][2 * i], half[0][2 * i + 1]),
                     two_float16(half[1][2 * i], half[1][2 * i + 1]));
    }
  }
}

// What is left to be blurred. What is read past the edge of what is filled has a weight of 0, but must be
// a number, so the edge is read again.
struct Area {
  const uint4* at_half[2][2];

  DEVICE Area(const uint4* planes, int height, int width, int top, int left) {
    int lane = lane_number();
    for (int i = 0; i < 4; ++i) {
      int row = min(top + i / 2 * 16 + lane % 16, height - 1);
      int unit = min(left / 8 + i % 2 * 2 + lane / 16, width / 8 - 1);
      at_half[i / 2][i % 2] = planes + area_unit(row, unit);
    }
  }

  template <int C, int I, int J>
  DEVICE void at(uint32 (&b)[4]) const {
    load_transposed<C * AREA * AREA / 8>(b, at_half[I][J]);
  }
};

// ---- Output ---------------------------------------------------------------------------------

struct Output {
  void* image;  // [S, S, 3]
  uint8* mask;  // [S, S]
  int kind;
  float scale[3], shift[3];
};

// Four pixels, interleaved: at once, or those whose bit is set.
template <class T, class Four>
DEVICE void store_four(void* image, int at, const Four (&quads)[3], bool whole, uint32 visible) {
  T* to = static_cast<T*>(image) + 3 * at;
  if (whole) {
    for (int k = 0; k < 3; ++k) reinterpret_cast<Four*>(to)[k] = quads[k];
  } else {
    const T* v = reinterpret_cast<const T*>(quads);
    for (int k = 0; k < 12; ++k)
      if (visible >> (k / 3) & 1) to[k] = v[k];
  }
}

// Which pixels of row y, from x to x + 3, are seen.
DEVICE uint32 visible_of(int y, int x, const Rectangle& seen, const Rectangle& paste, bool foreground) {
  bool in_rows = paste.top <= y && y < paste.bottom;
  uint32 visible = 0;
  for (int k = 0; k < 4; ++k) {
    bool inside = in_rows && paste.left <= x + k && x + k < paste.right;
    if (inside == foreground && seen.left <= x + k && x + k < seen.right) visible |= 1u << k;
  }
  return seen.top <= y && y < seen.bottom ? visible : 0;
}

// Normalise, round and store a warp's pixels where they are seen.
DEVICE void store(Colours& colours, const Output& output, int size, int top, int left, const Rectangle& seen,
                  const View& view, bool foreground) {
  int lane = lane_number(), x = left + lane % 4 * 4;
  Rectangle paste = paste_of(view), tile = {top, left, top + TILE, left + TILE};
  bool plain = tile.in(seen) && (foreground ? tile.in(paste) : tile.beside(paste));  // seen whole
  // Not unrolled: the kernel would outgrow the instruction cache. The lower rows move up for the second turn.
#pragma unroll 1
  for (int y = top + lane / 4, end = y + TILE; y < end; y += 8) {
    float v[12];
    for (int k = 0; k < 12; ++k) {
      float (&quad)[4] = colours.of[k % 3][k / 6];
      v[k] = quad[k / 3 % 2] * output.scale[k % 3] + output.shift[k % 3];
      quad[k / 3 % 2] = quad[k / 3 % 2 + 2];
    }
    int at = y * size + x;
    uint32 visible = plain ? 15 : visible_of(y, x, seen, paste, foreground);
    if (!visible) continue;
    bool whole = visible == 15 && size % 4 == 0;  // then aligned to 4 pixels, too
    if (whole) *reinterpret_cast<uint32*>(output.mask + at) = foreground ? 0x01010101 : 0;
    for (int k = 0; k < 4; ++k)
      if (!whole && visible >> k & 1) output.mask[at + k] = foreground;
    if (output.kind == FLOAT32) {
      float4 quads[3] = {{v[0], v[1], v[2], v[3]}, {v[4], v[5], v[6], v[7]}, {v[8], v[9], v[10], v[11]}};
      store_four<float>(output.image, at, quads, whole, visible);
    } else if (output.kind == BFLOAT16) {
      uint2 quads[3];
      for (int k = 0; k < 3; ++k)
        quads[k] = make_uint2(two_bfloat16(v[4 * k], v[4 * k + 1]), two_bfloat16(v[4 * k + 2], v[4 * k + 3]));
      store_four<uint16>(output.image, at, quads, whole, visible);
    } else {
      uint2 quads[3];
      for (int k = 0; k < 3; ++k)
        quads[k] = make_uint2(two_float16(v[4 * k], v[4 * k + 1]), two_float16(v[4 * k + 2], v[4 * k + 3]));
      store_four<uint16>(output.image, at, quads, whole, visible);
    }
  }
}

// ---- Mean luma ------------------------------------------------------------------------------

DEVICE int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Do something for each of a warp's share of the tiles of height x width pixels, column by column.
template <class Do>
DEVICE void each_tile(int height, int width, Do act) {
  int warp = warp_number(), down = ceil_div(height, TILE), tiles = down * ceil_div(width, TILE);
  int first = warp * tiles / WARPS, left = (warp + 1) * tiles / WARPS - first;
  int y = first % down * TILE, x = first / down * TILE;
  for (; left > 0; --left) {
    act(y, x);
    y += TILE;
    if (y >= height) y = 0, x += TILE;
  }
}

// Floats of mean_luma's shared memory; source pixels for which a block of a linear view is worth finding the
// columns' weights anew.
constexpr int SCRATCH = WARPS * 3 * PLANE / 2, LINEAR_PIXELS = 32768;

// What brightness and saturation, the first `count` operations, multiply the mean luma by; -1 if it depends
// on the pixels. Neither clips while its factor is in [0, 1], and then saturation keeps every luma.
DEVICE float linear_gain(const View& view, int count) {
  float gain = 1.0f;
  for (int i = 0; i < count; ++i) {
    int operation = view.flags >> (8 + 2 * i) & 3;
    float factor = view.factor(operation);
    if (operation == HUE || factor < 0.0f || factor > 1.0f) return -1.0f;
    if (operation == BRIGHTNESS) gain *= factor;
  }
  return gain;
}

// What source pixel k weighs in the sum of all outputs.
DEVICE float weight_in_all(const Axis& axis, int k) {
  float middle = static_cast<float>(k) + 0.5f, outputs = reciprocal(axis.slope), sum = 0.0f;
  int first = max(static_cast<int>((middle - axis.support) * outputs - 1.5f), 0);
  int last = min(static_cast<int>((middle + axis.support) * outputs + 0.5f), axis.last);
  for (int i = first; i <= last; ++i) {
    float centre = axis.centre(i), weights = 0.0f;
    int end = min(static_cast<int>(centre + axis.support + 0.5f), axis.length);
    for (int j = max(static_cast<int>(centre - axis.support + 0.5f), 0); j < end; ++j)
      weights += fmaxf(1.0f - fabsf(static_cast<float>(j) + 0.5f - centre) * axis.step, 0.0f);
    sum += fmaxf(1.0f - fabsf(middle - centre) * axis.step, 0.0f) * reciprocal(weights);
  }
  return sum;
}

// The luma of four pixels of a row, times 255 * 65536, weighted; `words` is where they begin, less `shift` bits.
DEVICE float luma_of_four(const uint32 (&words)[4], int shift, float4 weights) {
  constexpr uint32 RED_GREEN = 19595 | 38470u << 16, BLUE = 7471;
  uint32 x = __funnelshift_r(words[0], words[1], shift), y = __funnelshift_r(words[1], words[2], shift),
         z = __funnelshift_r(words[2], words[3], shift);
  uint32 pixels[4] = {x, __funnelshift_r(x, y, 24), __funnelshift_r(y, z, 16), z >> 8};
  float luma[4];
  for (int i = 0; i < 4; ++i)
    luma[i] = static_cast<float>(__dp2a_lo(RED_GREEN, pixels[i], __dp2a_hi(BLUE, pixels[i], 0u)));
  return weights.x * luma[0] + weights.y * luma[1] + weights.z * luma[2] + weights.w * luma[3];
}

// This thread's part of the luma of all outputs that comes from some rows of the crop: a weighted sum of
// source pixels. `weights` is shared scratch for a float each column and row. A warp takes four rows at a time, to
// have as many loads on their way.
DEVICE float luma_of_rows(const View& view, int top, int bottom, int size, float* weights) {
  int lane = lane_number(), quads = (view.width + 3) / 4, rows = bottom - top;
  float *of_row = weights + 4 * quads, total = 0.0f;
  Axis across(0, size, size, view.width, false), down(0, size, size, view.height, false);
  __syncthreads();
  for (int x = threadIdx.x; x < 4 * quads; x += THREADS) weights[x] = x < view.width ? weight_in_all(across, x) : 0.0f;
  for (int y = threadIdx.x; y < rows; y += THREADS) of_row[y] = weight_in_all(down, top + y);
  __syncthreads();
  for (int y = 4 * warp_number(); y < rows; y += 4 * WARPS) {
    const uint32* words[4];
    int shift[4], last[4];
    float sum[4] = {};
    for (int i = 0; i < 4; ++i) {
      uint64 first = reinterpret_cast<uint64>(view.origin) + static_cast<uint64>(top + min(y + i, rows - 1)) * view.pitch;
      words[i] = reinterpret_cast<const uint32*>(first & ~3ull), shift[i] = static_cast<int>(first & 3) * 8;
      uint64 rest = (reinterpret_cast<uint64>(view.end) - 1 - (first & ~3ull)) / 4;
      last[i] = rest < 0x7FFFFFFF ? static_cast<int>(rest) : 0x7FFFFFFF;
    }
    for (int quad = lane; quad < quads; quad += WARP) {
      uint32 four[4][4];
      for (int i = 0; i < 16; ++i) four[i / 4][i % 4] = words[i / 4][min(3 * quad + i % 4, last[i / 4])];
      float4 weight = reinterpret_cast<const float4*>(weights)[quad];
      for (int i = 0; i < 4; ++i) sum[i] += luma_of_four(four[i], shift[i], weight);
    }
    for (int i = 0; i < 4; ++i) total += y + i < rows ? of_row[y + i] * sum[i] : 0.0f;
  }
  return total * (1.0f / (255.0f * 65536.0f));
}

// Add up what the threads of the block have; in a fixed order.
DEVICE void store_sum(float total, float* sums, float* partial) {
  for (int step = WARP / 2; step > 0; step /= 2) total += __shfl_xor_sync(0xFFFFFFFF, total, step);
  if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = total;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0.0f;
    for (int i = 0; i < WARPS; ++i) sum += sums[i];
    *partial = sum;
  }
}

// ---- Work -----------------------------------------------------------------------------------

// Of a view's jitter: the operations before contrast, and what they multiply the mean luma by.
struct BeforeContrast {
  int count = 0;
  float gain;

  DEVICE BeforeContrast(const View& view) {
    while ((view.flags >> (8 + 2 * count) & 3) != CONTRAST) ++count;
    gain = linear_gain(view, count);
  }

  DEVICE bool linear(const View& view) const { return gain >= 0.0f && view.width + view.height + 4 <= SCRATCH; }
};

// Where many source pixels lie under an output pixel, a view is cut into more items, so that no block is held up by
// one.
DEVICE bool heavy(const View& view, int size) { return max(view.height, view.width) > 3 * size; }

// Items of mean_luma: some tiles of the view, row by row; or a share of the source.
struct Strips {
  int across, each, count;

  DEVICE Strips(const View& view, int size) {
    across = ceil_div(size, TILE);
    each = heavy(view, size) ? WARPS : 2 * across, count = ceil_div(across * across, each);
  }
};

DEVICE int mean_items(const View& view, int size) {
  if (!(view.flags & JITTER)) return 0;
  if (!BeforeContrast(view).linear(view)) return Strips(view, size).count;
  int most = ceil_div(ceil_div(size, TILE) * ceil_div(size, TILE), WARPS);
  int64 worth = static_cast<int64>(view.height) * view.width / LINEAR_PIXELS + 1;
  return worth < most ? static_cast<int>(worth) : most;
}

DEVICE int radius_of(const View& view) { return static_cast<int>(ceilf(3.0f * view.sigma())); }

// Items of compose: tiles of a foreground, counted from the paste's corner, or of the whole image.
struct Tiles {
  int side, top, left, bottom, right, across, count;

  DEVICE Tiles(const View& view, bool foreground, int size) {
    Rectangle paste = paste_of(view);
    side = ((heavy(view, size) ? AREA / 2 : AREA) - 2 * radius_of(view)) / 4 * 4;
    top = foreground ? paste.top : 0, left = foreground ? paste.left / 4 * 4 : 0;
    bottom = foreground ? paste.bottom : size, right = foreground ? paste.right : size;
    across = ceil_div(right - left, side), count = across * ceil_div(bottom - top, side);
  }

  // What is seen of a tile: of a background, less what is hidden, but all of what is seen in one rectangle.
  DEVICE Rectangle seen(int number, const View& view, bool foreground) const {
    Rectangle paste = paste_of(view), seen;
    seen.top = top + number / across * side, seen.bottom = min(seen.top + side, bottom);
    seen.left = left + number % across * side, seen.right = min(seen.left + side, right);
    if (!foreground) {
      bool in_rows = paste.top <= seen.top && seen.bottom <= paste.bottom;
      bool in_columns = paste.left <= seen.left && seen.right <= paste.right;
      if (in_columns && paste.top <= seen.top) seen.top = max(seen.top, paste.bottom);
      else if (in_columns && seen.bottom <= paste.bottom) seen.bottom = min(seen.bottom, paste.top);
      else if (in_rows && paste.left <= seen.left) seen.left = max(seen.left, paste.right) / 4 * 4;
      else if (in_rows && seen.right <= paste.right) seen.right = min(seen.right, paste.left);
    }
    return seen;
  }
};

constexpr int PLANNERS = 1024;  // threads of a block of plan
constexpr int PLANS = 16;       // blocks of plan for a list: each writes the items of its share of the views

// This thread's sum of all threads' before it, and the sum of all; `sums` is shared.
DEVICE int sum_before(int mine, int* sums, int& all) {
  int lane = lane_number(), sum = mine;
  for (int step = 1; step < WARP; step *= 2) {
    int other = __shfl_up_sync(0xFFFFFFFF, sum, step);
    if (lane >= step) sum += other;
  }
  __syncthreads();
  if (lane == WARP - 1) sums[threadIdx.x / WARP] = sum;
  __syncthreads();
  int before = 0;
  all = 0;
  for (int i = 0; i < PLANNERS / WARP; ++i) {
    if (i == threadIdx.x / WARP) before = all;
    all += sums[i];
  }
  return before + sum - mine;
}

// An item: the view; of mean_luma its number among the view's items, and theirs; of compose top and bottom, left and
// right of the pixels, and how many sums mean_luma has left.
DEVICE int4 item_of(const View& view, int i, int number, int size, bool composing) {
  if (!composing) return {i, number, mean_items(view, size), 0};
  bool foreground = i % 4 < 2;
  Rectangle seen = Tiles(view, foreground, size).seen(number, view, foreground);
  return {i, seen.top | seen.bottom << 16, seen.left | seen.right << 16, mean_items(view, size)};
}

// A list of work is int4 [length]: how many items have been taken; then each, heavy views first; and as many as there
// are blocks for the end. plan makes mean_luma's list and compose's.
extern "C" __global__ void __launch_bounds__(PLANNERS, 1)
    plan(const int4* views, int n, int size, int4* lists, int length, int blocks) {
  __shared__ int sums[PLANNERS / WARP];
  bool composing = blockIdx.x % 2;
  int lane = lane_number(), share = blockIdx.x / 2;
  int4* list = lists + (composing ? length : 0);
  auto items_of = [=](const View& view, int i) {
    return composing ? Tiles(view, i % 4 < 2, size).count : mean_items(view, size);
  };
  int heavies = 0, end;
  for (int i = threadIdx.x; i < n; i += PLANNERS) {
    View view(nullptr, 0, views, i);
    if (heavy(view, size)) heavies += items_of(view, i);
  }
  sum_before(heavies, sums, heavies);
  int next_heavy = 1, next = end = 1 + heavies;
  for (int first = 0; first < n; first += PLANNERS) {
    int i = first + threadIdx.x, items = 0;
    bool is_heavy = false;
    if (i < n) {
      View view(nullptr, 0, views, i);
      is_heavy = heavy(view, size), items = items_of(view, i);
    }
    int all_heavy, all, before_heavy = sum_before(is_heavy ? items : 0, sums, all_heavy);
    int before = sum_before(is_heavy ? 0 : items, sums, all);
    int begin = is_heavy ? next_heavy + before_heavy : next + before;
    for (int k = share % WARP; k < WARP; k += PLANS) {
      int of = __shfl_sync(0xFFFFFFFF, i, k), count = __shfl_sync(0xFFFFFFFF, items, k);
      int at = __shfl_sync(0xFFFFFFFF, begin, k);
      if (count == 0) continue;
      View view(nullptr, 0, views, of);
      for (int number = lane; number < count; number += WARP) list[at + number] = item_of(view, of, number, size, composing);
    }
    next_heavy += all_heavy, next = end = next + all;
  }
  if (share == 0) {
    for (int i = threadIdx.x; i < blocks; i += PLANNERS) list[end + i] = {-1, 0, 0, 0};
    if (threadIdx.x == 0) list[0] = {0, 0, 0, 0};
  }
}

// Take the next item of a list for the block; its view is below 0 at the end. It is passed on in memory of each warp
// that no other writes to.
DEVICE int4 take(int4* list, uint4 (*shared)[3 * PLANE / 8]) {
  __syncthreads();
  if (threadIdx.x == 0) {
    int4 item = list[1 + atomicAdd(&list->x, 1)];
    for (int i = 0; i < WARPS; ++i) *reinterpret_cast<int4*>(shared[i]) = item;
  }
  __syncthreads();
  int4 item = *reinterpret_cast<const int4*>(shared[threadIdx.x / WARP]);
  __syncwarp();
  return {__shfl_sync(0xFFFFFFFF, item.x, 0), __shfl_sync(0xFFFFFFFF, item.y, 0),
          __shfl_sync(0xFFFFFFFF, item.z, 0), __shfl_sync(0xFFFFFFFF, item.w, 0)};
}

// ---- Kernels --------------------------------------------------------------------------------

// The luma that contrast will see, of each item of its list. partial is float32 [n, parts], of which a view has
// the first mean_items.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT == 4 ? 5 : RESIDENT == 3 ? 4 : 3)
    mean_luma(const uint8* pixels, int64 bytes, const int4* views, int4* lists, float* partial, int parts, int size) {
  __shared__ uint4 shared[WARPS][3 * PLANE / 8];
  __shared__ float sums[WARPS];
  int warp = warp_number(), lane = lane_number();
  for (int4 item; (item = take(lists, shared)).x >= 0;) {
    View view(pixels, bytes, views, item.x);
    BeforeContrast before(view);
    int number = item.y;
    float total = 0.0f;
    if (before.linear(view)) {
      int64 height = view.height;
      total = before.gain * luma_of_rows(view, static_cast<int>(height * number / item.z),
                                         static_cast<int>(height * (number + 1) / item.z), size,
                                         reinterpret_cast<float*>(shared));
    } else {
      bool transpose = view.flags & TRANSPOSE;
      Axis down(0, size, size, transpose ? view.width : view.height, view.flags & MIRROR_Y);
      Axis across(0, size, size, transpose ? view.height : view.width, view.flags & MIRROR_X);
      Strips strips(view, size);
      int begin = number * strips.each, tiles = min(strips.each, strips.across * strips.across - begin);
      int first = begin + warp * tiles / WARPS, left = begin + (warp + 1) * tiles / WARPS - first;
      Rows kept;
      for (int y = first / strips.across * TILE, x = first % strips.across * TILE; left > 0; --left) {
        Columns fresh;
        Colours colours;
        resize(view, down, across, y, x, kept, fresh, shared[warp], colours);
        jitter(colours, view, before.count, 0.0f);
        int rows = size - y - lane / 4, columns = size - x - lane % 4 * 4;  // that there are from here on
        for (int k = 0; k < 8; ++k) {
          const float(&of)[3][2][4] = colours.of;
          float value = luma(of[0][k / 4][k % 4], of[1][k / 4][k % 4], of[2][k / 4][k % 4]);
          total += rows > k % 4 / 2 * 8 && columns > k / 4 * 2 + k % 2 ? value : 0.0f;
        }
        x += TILE;
        if (x >= size) x = 0, y += TILE;
      }
    }
    store_sum(total, sums, partial + static_cast<int64>(item.x) * parts + number);
  }
}

// Compose queries and keys, item by item; lists and partial are what plan and mean_luma have left.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    compose(const uint8* pixels, int64 bytes, const int4* views, int4* lists, int length, const float* partial,
            int parts, int size, int kind, void* query, void* key, uint8* query_mask, uint8* key_mask, float red_scale,
            float green_scale, float blue_scale, float red_shift, float green_shift, float blue_shift) {
  __shared__ uint4 shared[WARPS][3 * PLANE / 8];
  __shared__ uint4 planes[3 * AREA * AREA / 8];
  int warp = warp_number();
  for (int4 item; (item = take(lists + length, shared)).x >= 0;) {
    int n = item.x;
    bool foreground = n % 4 < 2;
    Rectangle seen = {item.y & 0xFFFF, item.z & 0xFFFF, item.y >> 16, item.z >> 16};
    if (seen.empty()) continue;
    View view(pixels, bytes, views, n);
    int radius = radius_of(view);
    uint64 before = static_cast<uint64>(n / 4) * size * size;  // pixels of other images
    Output output = {static_cast<uint8*>(n % 2 ? key : query) + before * (kind == FLOAT32 ? 12 : 6),
                     (n % 2 ? key_mask : query_mask) + before, kind,
                     {red_scale, green_scale, blue_scale}, {red_shift, green_shift, blue_shift}};
    float mean = 0.0f;
#pragma unroll 1
    for (int i = lane_number(); i < item.w; i += WARP) mean += partial[static_cast<int64>(n) * parts + i];
    for (int step = WARP / 2; step > 0; step /= 2) mean += __shfl_xor_sync(0xFFFFFFFF, mean, step);
    mean *= reciprocal(static_cast<float>(size) * static_cast<float>(size));
    bool transpose = view.flags & TRANSPOSE;
    int height = seen.bottom - seen.top, width = seen.right - seen.left;
    int high = height + 2 * radius, wide = width + 2 * radius;
    Axis rows(seen.top - radius, high, size, transpose ? view.width : view.height, view.flags & MIRROR_Y);
    Axis columns(seen.left - radius, wide, size, transpose ? view.height : view.width, view.flags & MIRROR_X);
    uint32* taps = reinterpret_cast<uint32*>(shared[warp]);
    // The last pass ends in the output. A blur has one before it, which fills the planes. They share their code, or
    // the kernel would outgrow the instruction cache.
#pragma unroll 1
    for (bool blurring = false, last;; blurring = true) {
      last = blurring || radius == 0;
      Columns kept;
      each_tile(blurring ? height : high, blurring ? width : wide, [&](int y, int x) {
        Colours colours = {};
        if (blurring) {
          uint32 a[2][4], b[2][2][2];
          float gain = blur_weights(taps, a, b);
          Area area(planes, ceil_div(high, TILE) * TILE, ceil_div(wide, TILE) * TILE, y, x);
          filter(colours, a, b, true, true, area);
          each_pixel(colours, [=](float& r, float& g, float& b) { r *= gain, g *= gain, b *= gain; });
        } else {
          Rows fresh;
          resize(view, rows, columns, y, x, fresh, kept, shared[warp], colours);
          jitter(colours, view, view.flags & JITTER ? 4 : 0, mean);
          if (view.flags & GREY)
            each_pixel(colours, [](float& r, float& g, float& b) { r = g = b = luma(r, g, b); });
        }
        if (last) store(colours, output, size, seen.top + y, seen.left + x, seen, view, foreground);
        else keep(colours, y, x, planes);
      });
      if (last) break;
      __syncthreads();
      make_taps(view.sigma(), radius, taps);
    }
  }
}
