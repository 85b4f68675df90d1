// Copy-paste on an NVIDIA GPU: from decoded photos to composed pairs, in two kernels.
//
//     mean_luma   one block per strip of a view         -> luma of its pixels before contrast
//     compose     one block per tile of a layer         -> its pixels and mask
//
// A warp resizes 16 x 16 pixels at a time with matrix products on tensor cores (resize.cuh), and
// adjusts their colours in float32 in the accumulators. A view without a blur is stored from there.
// A view with a blur is kept in shared memory as float16 planes of the whole tile, then blurred
// with the same kind of products. If all operations before contrast are linear, the mean is a
// weighted sum of source pixels.
//
// A block has four warps with at most 128 registers per thread. mean_luma uses 24 KiB of shared
// memory and compose 48: on an H100 or B200, four blocks of either fit on a multiprocessor, which
// is 16 warps. The limit is instructions rather than bytes: issuing them, and in compose also
// fetching them, because its code is larger than the caches close to a multiprocessor
// (docs/speed.md).
//
// Each kernel is compiled by itself, both at a time, which halves the wait (compile.py).
//
// Every sum has a fixed order, so the result for a sample does not depend on the rest of the batch.

#include "resize.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
constexpr int AREA = 64;       // side of the area that a block computes, with the blur's halo

// Blocks of compose that fit in a multiprocessor's shared memory: 227, 163 or 99 KiB.
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

// Shift the hue, keeping HSV's saturation and value. Hue is in sixths of a turn: red at 0, green at
// 2, blue at 4. A channel has its maximum within 1 of its own hue, and its minimum beyond 2.
DEVICE void shift_hue(float& red, float& green, float& blue, float sixths) {
  float value = fmaxf(fmaxf(red, green), blue);
  float chroma = value - fminf(fminf(red, green), blue);
  float scale = reciprocal(fmaxf(chroma, 1e-12f));
  float hue = (green - blue) * scale + sixths;
  hue = green == value ? (blue - red) * scale + (2.0f + sixths) : hue;
  hue = blue == value ? (red - green) * scale + (4.0f + sixths) : hue;
  // Hue is now in [-4, 8]; distances of more than half a turn are shorter in the other direction.
  float from_red = fabsf(hue), from_green = fabsf(hue - 2.0f), from_blue = fabsf(hue - 4.0f);
  red = value - chroma * __saturatef(fminf(from_red, fabsf(6.0f - from_red)) - 1.0f);
  green = value - chroma * __saturatef(fminf(from_green, fabsf(6.0f - from_green)) - 1.0f);
  blue = value - chroma * __saturatef(fminf(from_blue, fabsf(6.0f - from_blue)) - 1.0f);
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
      float turns = view.factor(HUE);
      float sixths = 6.0f * (turns - floorf(turns + 0.5f));
      each_pixel(colours, [=](float& r, float& g, float& b) { shift_hue(r, g, b, sixths); });
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

// Position of a unit of 8 pixels in a plane of AREA x AREA.
DEVICE int area_unit(int row, int unit) {
  return row * (AREA / 8) + (unit ^ (row % 8));
}

// The Gaussian, cut off at the radius; `two` gives two adjacent taps.
struct Gaussian {
  float radius, exponent;

  DEVICE float at(float distance) const {
    return fabsf(distance) <= radius ? power_of_two(exponent * distance * distance) : 0.0f;
  }

  DEVICE uint32 two(float distance) const { return two_float16(at(distance), at(distance + 1.0f)); }
};

// The blur as operands of mma: output i is centred in source pixels i to i + 2 radius. Returns the
// factor that normalises the sum of the weights to 1.
DEVICE float blur_weights(float sigma, float radius, uint32 (&a)[2][4], uint32 (&b)[2][2][2]) {
  Gaussian gaussian = {radius, -0.72134752f / (sigma * sigma)};  // log2(e) / 2
  int lane = threadIdx.x % WARP;
  float first = static_cast<float>(2 * (lane % 4)) - radius, row = static_cast<float>(lane / 4);
  float left = static_cast<float>(column_of(0, lane / 4)), right = left + 2.0f;
  for (int i = 0; i < 4; ++i) {
    float k = first + static_cast<float>(8 * i);
    a[i / 2][i % 2 * 2] = gaussian.two(k - row), a[i / 2][i % 2 * 2 + 1] = gaussian.two(k - row - 8.0f);
    b[i / 2][0][i % 2] = gaussian.two(k - left), b[i / 2][1][i % 2] = gaussian.two(k - right);
  }
  float sum[4] = {};  // the same for every row and every column
  multiply(sum, a[0], ONES, ONES);
  multiply(sum, a[1], ONES, ONES);
  return reciprocal(sum[0] * sum[0]);
}

DEVICE void keep(const Colours& colours, int top, int left, uint4* planes) {
  int lane = threadIdx.x % WARP, unit = left / 8 + lane % 4 / 2;
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

// The area to be blurred. Pixels beyond the filled part have a weight of 0, but must be valid
// numbers, so the edge is read again instead.
struct Area {
  const uint4* at_half[2][2];

  DEVICE Area(const uint4* planes, int height, int width, int top, int left) {
    int lane = threadIdx.x % WARP;
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

// Write four interleaved pixels: all at once, or only those whose bit is set.
template <class T, class Four>
DEVICE void store_four(T* to, const Four (&quads)[3], const T (&v)[12], bool whole, uint32 visible) {
  if (whole) {
    for (int k = 0; k < 3; ++k) reinterpret_cast<Four*>(to)[k] = quads[k];
  } else {
    for (int k = 0; k < 12; ++k)
      if (visible >> (k / 3) & 1) to[k] = v[k];
  }
}

// Which of the pixels x to x + 3 of row y are visible, as bits.
DEVICE uint32 visible_of(int y, int x, const Rectangle& seen, const Rectangle& paste, bool foreground) {
  bool in_rows = paste.top <= y && y < paste.bottom;
  uint32 visible = 0;
  for (int k = 0; k < 4; ++k) {
    bool inside = in_rows && paste.left <= x + k && x + k < paste.right;
    if (inside == foreground && seen.left <= x + k && x + k < seen.right) visible |= 1u << k;
  }
  return seen.top <= y && y < seen.bottom ? visible : 0;
}

// Normalise, round and store the visible pixels of a warp.
DEVICE void store(Colours& colours, const Output& output, int size, int top, int left, const Rectangle& seen,
                  const View& view, bool foreground) {
  int lane = threadIdx.x % WARP, x = left + lane % 4 * 4;
  Rectangle paste = paste_of(view), tile = {top, left, top + TILE, left + TILE};
  bool plain = tile.in(seen) && (foreground ? tile.in(paste) : tile.beside(paste));  // all visible
  for (int i = 0; i < 2; ++i) {
    int y = top + lane / 4 + 8 * i, at = y * size + x;
    uint32 visible = plain ? 15 : visible_of(y, x, seen, paste, foreground);
    if (!visible) continue;
    bool whole = visible == 15 && size % 4 == 0;  // then also aligned to 4 pixels
    if (whole) *reinterpret_cast<uint32*>(output.mask + at) = foreground ? 0x01010101 : 0;
    for (int k = 0; k < 4; ++k)
      if (!whole && visible >> k & 1) output.mask[at + k] = foreground;
    float v[12];
    for (int k = 0; k < 12; ++k)
      v[k] = colours.of[k % 3][k / 6][2 * i + k / 3 % 2] * output.scale[k % 3] + output.shift[k % 3];
    if (output.kind == FLOAT32) {
      float4 quads[3] = {{v[0], v[1], v[2], v[3]}, {v[4], v[5], v[6], v[7]}, {v[8], v[9], v[10], v[11]}};
      store_four(static_cast<float*>(output.image) + 3 * at, quads, v, whole, visible);
    } else {
      uint32 w[6];
      uint16 h[12];
      for (int k = 0; k < 6; ++k) {
        w[k] = output.kind == BFLOAT16 ? two_bfloat16(v[2 * k], v[2 * k + 1]) : two_float16(v[2 * k], v[2 * k + 1]);
        h[2 * k] = static_cast<uint16>(w[k]), h[2 * k + 1] = static_cast<uint16>(w[k] >> 16);
      }
      uint2 quads[3] = {{w[0], w[1]}, {w[2], w[3]}, {w[4], w[5]}};
      store_four(static_cast<uint16*>(output.image) + 3 * at, quads, h, whole, visible);
    }
  }
}

// ---- Kernels --------------------------------------------------------------------------------

DEVICE int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Call `act` for each tile in a warp's share of the height x width pixels, column by column.
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

// Source pixels that make another block of a linear view worth its cost: it has to compute the
// columns' weights again.
constexpr int LINEAR_PIXELS = 32768;
// Source pixels per output pixel along a side above which two blocks share a strip.
constexpr float HEAVY = 3.0f;

// The factor by which brightness and saturation, as the first `count` operations, change the mean
// luma; -1 if it depends on the pixels. Neither clips if its factor is in [0, 1]; then saturation
// preserves every luma.
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

// The weight of source pixel k in the sum of all outputs.
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

// This thread's part of the sum of all outputs' luma that comes from some rows of the crop: a
// weighted sum of source pixels. `weights` is shared scratch memory for one float per column and
// row.
DEVICE float luma_of_rows(const View& view, int top, int bottom, int size, float* weights) {
  int lane = threadIdx.x % WARP;
  float *of_row = weights + view.width, total = 0.0f;
  Axis across(0, size, size, view.width, false), down(0, size, size, view.height, false);
  for (int x = threadIdx.x; x < view.width; x += THREADS) weights[x] = weight_in_all(across, x);
  for (int y = threadIdx.x; y < bottom - top; y += THREADS) of_row[y] = weight_in_all(down, top + y);
  __syncthreads();
  for (int y = threadIdx.x / WARP; y < bottom - top; y += WARPS) {
    const uint8* pixel = view.origin + static_cast<uint64>(top + y) * view.pitch + 3 * lane;
    float sum = 0.0f;
    for (int x = lane; x < view.width; x += WARP, pixel += 3 * WARP)
      sum += weights[x] * static_cast<float>(19595 * pixel[0] + 38470 * pixel[1] + 7471 * pixel[2]);
    total += of_row[y] * sum;
  }
  return total * (1.0f / (255.0f * 65536.0f));
}

// Sum over the threads of the block, in a fixed order.
DEVICE void store_sum(float total, float* sums, float* partial) {
  for (int step = WARP / 2; step > 0; step /= 2) total += __shfl_xor_sync(0xFFFFFFFF, total, step);
  if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = total;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0.0f;
    for (int i = 0; i < WARPS; ++i) sum += sums[i];
    partial[blockIdx.x] = sum;
  }
}

#ifndef COMPOSE_ALONE

// The luma before contrast, summed over the left and the right half of strips of TILE rows: one
// block for each half, or one for both if the crop is small. partial is float32 [B, 4, parts].
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    mean_luma(const uint8* pixels, int64 bytes, const int4* views, float* partial, int size, int parts) {
  __shared__ uint4 shared[WARPS][3 * PLANE / 8];
  __shared__ float sums[WARPS];
  int n = blockIdx.x / parts, part = blockIdx.x % parts;
  int warp = warp_number(), lane = threadIdx.x % WARP;
  View view(pixels, bytes, views, n);
  if (!(view.flags & JITTER)) return;
  int before = 0;
  while ((view.flags >> (8 + 2 * before) & 3) != CONTRAST) ++before;
  float total = 0.0f, gain = linear_gain(view, before);
  if (gain >= 0.0f && view.width + view.height <= static_cast<int>(sizeof shared / sizeof(float))) {
    int64 height = view.height, worth = height * view.width / LINEAR_PIXELS + 1;
    int used = worth < parts ? static_cast<int>(worth) : parts;
    if (part < used) {
      total = gain * luma_of_rows(view, static_cast<int>(height * part / used),
                                  static_cast<int>(height * (part + 1) / used), size,
                                  reinterpret_cast<float*>(shared));
    }
    store_sum(total, sums, partial);
    return;
  }
  bool transpose = view.flags & TRANSPOSE;
  int top = part / 2 * TILE, height = min(size - top, TILE), middle = (size + TILE) / 2 / TILE * TILE;
  Axis down(top, TILE, size, transpose ? view.width : view.height, view.flags & MIRROR_Y);
  Axis across(0, size, size, transpose ? view.height : view.width, view.flags & MIRROR_X);
  bool heavy = fmaxf(down.support, across.support) > HEAVY;
  int from = heavy && part % 2 ? middle : 0, to = heavy && part % 2 == 0 ? middle : size;
  if (!heavy && part % 2) to = 0;
  Rows kept;
  each_tile(TILE, to - from, [&](int, int column) {
    int x = from + column;
    Columns fresh;
    Colours colours;
    resize(view, down, across, 0, x, kept, fresh, shared[warp], colours);
    jitter(colours, view, before, 0.0f);
    int rows = height - lane / 4, columns = size - x - lane % 4 * 4;  // remaining from here on
    for (int i = 0; i < 8; ++i) {
      float value = luma(colours.of[0][i / 4][i % 4], colours.of[1][i / 4][i % 4], colours.of[2][i / 4][i % 4]);
      total += rows > i % 4 / 2 * 8 && columns > i / 4 * 2 + i % 2 ? value : 0.0f;
    }
  });
  store_sum(total, sums, partial);
}

#endif
#ifndef MEAN_LUMA_ALONE

// The tile of this block, counted from the paste's corner for a foreground, and from the image's
// corner for a background, without the hidden part. A wider blur makes tiles smaller. They start at
// multiples of 4.
DEVICE Rectangle tile_of(int number, const View& view, bool foreground, int size, int radius) {
  Rectangle paste = paste_of(view);
  int side = (AREA - 2 * radius) / 4 * 4;
  int top = foreground ? paste.top : 0, left = foreground ? paste.left / 4 * 4 : 0;
  int bottom = foreground ? paste.bottom : size, right = foreground ? paste.right : size;
  int across = ceil_div(right - left, side);
  Rectangle seen;
  seen.top = top + number / across * side, seen.left = left + number % across * side;
  seen.bottom = min(seen.top + side, bottom), seen.right = min(seen.left + side, right);
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

// Compose queries and keys: `tiles` blocks per layer, two layers per image, two images per sample;
// most blocks have work to do. partial comes from mean_luma.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    compose(const uint8* pixels, int64 bytes, const int4* views, const float* partial, int size, int parts, int tiles,
            int kind, void* query, void* key, uint8* query_mask, uint8* key_mask, float red_scale,
            float green_scale, float blue_scale, float red_shift, float green_shift, float blue_shift) {
  __shared__ uint4 shared[WARPS][3 * PLANE / 8];
  __shared__ uint4 planes[3 * AREA * AREA / 8];
  int n = blockIdx.x / tiles, number = blockIdx.x % tiles, warp = warp_number();
  bool foreground = n % 4 < 2;
  View view(pixels, bytes, views, n);
  int radius = static_cast<int>(ceilf(3.0f * view.sigma()));
  Rectangle seen = tile_of(number, view, foreground, size, radius);
  if (seen.empty()) return;
  uint64 before = static_cast<uint64>(n / 4) * size * size;  // pixels of the preceding images
  Output output = {static_cast<uint8*>(n % 2 ? key : query) + before * (kind == FLOAT32 ? 12 : 6),
                   (n % 2 ? key_mask : query_mask) + before, kind,
                   {red_scale, green_scale, blue_scale}, {red_shift, green_shift, blue_shift}};
  int operations = 0;
  float mean = 0.0f;
  if (view.flags & JITTER) {
    operations = 4;
    for (int i = 0; i < parts; ++i) mean += partial[n * parts + i];
    mean /= static_cast<float>(size) * static_cast<float>(size);
  }
  bool transpose = view.flags & TRANSPOSE;
  int height = seen.bottom - seen.top, width = seen.right - seen.left;
  Axis rows(seen.top - radius, height + 2 * radius, size, transpose ? view.width : view.height,
            view.flags & MIRROR_Y);
  Axis columns(seen.left - radius, width + 2 * radius, size, transpose ? view.height : view.width,
               view.flags & MIRROR_X);
  Columns kept;
  each_tile(height + 2 * radius, width + 2 * radius, [&](int y, int x) {
    Rows fresh;
    Colours colours;
    resize(view, rows, columns, y, x, fresh, kept, shared[warp], colours);
    jitter(colours, view, operations, mean);
    if (view.flags & GREY)
      each_pixel(colours, [](float& r, float& g, float& b) { r = g = b = luma(r, g, b); });
    if (radius > 0) keep(colours, y, x, planes);
    else store(colours, output, size, seen.top + y, seen.left + x, seen, view, foreground);
  });
  if (radius == 0) return;
  uint32 a[2][4], b[2][2][2];
  float gain = blur_weights(view.sigma(), static_cast<float>(radius), a, b);
  __syncthreads();
  int filled_height = ceil_div(height + 2 * radius, TILE) * TILE;
  int filled_width = ceil_div(width + 2 * radius, TILE) * TILE;
  each_tile(height, width, [&](int y, int x) {
    Colours colours = {};
    filter(colours, a, b, true, true, Area(planes, filled_height, filled_width, y, x));
    each_pixel(colours, [=](float& r, float& g, float& b) { r *= gain, g *= gain, b *= gain; });
    store(colours, output, size, seen.top + y, seen.left + x, seen, view, foreground);
  });
}

#endif
