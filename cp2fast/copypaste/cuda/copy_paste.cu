// Copy-paste on an NVIDIA GPU: from decoded photos to composed pairs, in two kernels.
//
//     mean_luma   a block: a strip of a view            -> luma of its pixels before contrast
//     compose     a block: a tile of one layer          -> its pixels and mask
//
// A resize is a product of three matrices, rows x source x columns, and both outer ones are banded;
// so is a Gaussian blur. Tensor cores take them 16 x 16 pixels a warp at a time: a block of source
// pixels, at most CHUNK x CHUNK, becomes three planes of float16 in the warp's shared memory, the
// vertical product's accumulators become, in registers, the left operand of the horizontal one, and
// larger filters add up block by block. Colours are adjusted in float32 in the accumulators. Only a
// view with a blur goes through shared memory once more, as planes of the whole tile.
//
// An orientation costs nothing: mirrors are in the filters, a transpose in how ldmatrix reads.
// Every sum has a fixed order, so the bits of a sample depend on nothing else in the batch.
//
// A float16 byte is its own bits, a subnormal: b * 2^-24, which products of tensor cores take
// exactly; row_unit in the vertical weights makes up for it. Weights are divided by the sum of what
// they were rounded to. What is lost is the rounding between the two passes, 2^-12 of a value.

typedef unsigned char uint8;
typedef unsigned short uint16;
typedef unsigned int uint32;
typedef unsigned long long uint64;
typedef long long int64;

constexpr int WARP = 32;
constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
constexpr int TILE = 16;       // side of what a warp makes at a time
constexpr int AREA = 64;       // side of what a block makes at a time, the blur's halo included
constexpr int CHUNK = 32;      // side of the source pixels that a warp holds at a time
constexpr int RAW_PITCH = 112; // bytes of such a row, from one 16-byte boundary to another
constexpr int PLANE = CHUNK * CHUNK;
constexpr uint32 ONES = 0x3C003C00;       // 1.0 twice in float16
constexpr uint32 BYTE_ONES = 0x00010001;  // the byte 1 twice

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
enum { MIRROR_X = 1, MIRROR_Y = 2, TRANSPOSE = 4, JITTER = 8, GREY = 16 };

// What a GPU does in one instruction and C++ has no word for. The tests bring their own.
#ifndef ON_CPU
__device__ __forceinline__ uint32 shared_address(const void* pointer) {
  return static_cast<uint32>(__cvta_generic_to_shared(pointer));
}

// d += a b, of 16 x 16 by 16 x 8 float16 numbers, added in float32.
__device__ __forceinline__ void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four matrices of 8 x 8 float16; each thread names a row of 16 bytes. The constant offset stays out of
// registers.
template <int OFFSET>
__device__ __forceinline__ void load_matrices(uint32 (&b)[4], const uint4* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4 + %5];"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
               : "r"(shared_address(row)), "n"(16 * OFFSET)
               : "memory");
}

template <int OFFSET>
__device__ __forceinline__ void load_transposed(uint32 (&b)[4], const uint4* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4 + %5];"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
               : "r"(shared_address(row)), "n"(16 * OFFSET)
               : "memory");
}

// 16 bytes to shared memory, past the registers; wait_for_copies is for the thread's own.
__device__ __forceinline__ void copy_async(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from)
               : "memory");
}

__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

__device__ __forceinline__ float reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ __forceinline__ float power_of_two(float exponent) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(exponent));
  return power;
}

__device__ __forceinline__ uint32 two_float16(float low, float high) {
  uint32 packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

__device__ __forceinline__ uint32 two_bfloat16(float low, float high) {
  uint32 packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
#endif

// A block of source pixels on its way into a warp's shared memory, first as it is, then as planes.
struct Source {
  const uint8* base;             // a boundary of 16 bytes before the first pixel
  int before, pitch, rows, last; // bytes between them; and from there to the last boundary before the end

  // Bytes from the base to a row, of the block or beyond.
  __device__ int offset(int row) const { return row * pitch + before; }
};

// A row of the table of views, see views.py. What is seldom needed is read where it is.
struct View {
  const int4* row;
  const uint8 *origin, *end;  // of the crop, and of all pixels
  int pitch, height, width;
  uint32 flags;

  __device__ View(const uint8* pixels, int64 bytes, const int4* views, int n)
      : row(views + 4 * n), end(pixels + bytes) {
    int4 a = row[0], b = row[1];
    uint64 high = static_cast<uint32>(a.y);
    origin = pixels + (high << 32 | static_cast<uint32>(a.x));
    pitch = a.z, height = a.w, width = b.x, flags = b.y;
  }

  // Of one of the jitter's operations.
  __device__ float factor(int operation) const {
    return __int_as_float(reinterpret_cast<const int*>(row)[6 + operation]);
  }

  // The pixels of `rows` rows from here on.
  __device__ Source source(int top, int left, int rows) const {
    uint64 first = reinterpret_cast<uint64>(origin) + static_cast<uint64>(top) * static_cast<uint64>(pitch) +
                   3 * static_cast<uint64>(left);
    uint64 rest = reinterpret_cast<uint64>(end) - 1 - first / 16 * 16;
    int last = rest < 0x7FFFFFFF ? static_cast<int>(rest) & ~15 : 0x7FFFFFF0;
    return {reinterpret_cast<const uint8*>(first / 16 * 16), static_cast<int>(first % 16), pitch, rows, last};
  }

  __device__ float sigma() const { return __int_as_float(row[2].z); }
};

// Bottom and right are just outside.
struct Rectangle {
  int top, left, bottom, right;

  __device__ bool empty() const { return top >= bottom || left >= right; }
};

__device__ __forceinline__ Rectangle paste_of(const View& view) {
  int top = view.row[2].w;
  int4 rest = view.row[3];
  return {top, rest.x, top + rest.y, rest.x + rest.z};
}

// Said so that the compiler knows it to be the same in a whole warp, and with it all that follows from it.
__device__ __forceinline__ int warp_number() { return __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / WARP, 0); }

// ---- Resize ---------------------------------------------------------------------------------

// One side of a view's resize: output pixels from `start` on, and where they come from. Those past
// the view's edge repeat the edge; those past the `last` that is needed repeat that one.
struct Axis {
  int start, last, length;
  float slope, origin, support, step;

  __device__ Axis(int start, int count, int size, int length, bool mirror)
      : start(start), last(min(start + count, size) - 1), length(length) {
    float scale = static_cast<float>(length) / static_cast<float>(size);
    slope = mirror ? -scale : scale;
    origin = mirror ? static_cast<float>(length) - 0.5f * scale : 0.5f * scale;
    support = fmaxf(scale, 1.0f), step = reciprocal(support);
  }

  // Middle of output pixel `i` from start, in source pixels.
  __device__ float centre(int i) const {
    return static_cast<float>(min(max(start + i, 0), last)) * slope + origin;
  }

  // The source pixels under the TILE outputs from `i` on: the first, and the one after the last.
  __device__ void window(int i, int& first, int& end) const {
    float one = centre(i), other = centre(i + TILE - 1);
    first = max(static_cast<int>(fminf(one, other) - support + 0.5f), 0);
    end = min(static_cast<int>(fmaxf(one, other) + support + 0.5f), length);
  }
};

// Weights of source pixels k and k + 1, of an output whose centre lies `distance` before k.
__device__ __forceinline__ uint32 two_weights(float distance, float step, float unit) {
  return two_float16(fmaxf(unit - fabsf(distance), 0.0f), fmaxf(unit - fabsf(distance + step), 0.0f));
}

// Which of the pixels k and k + 1 of `count` there are.
__device__ __forceinline__ uint32 two_exist(int k, int count) {
  return k + 1 < count ? 0xFFFFFFFF : k < count ? 0x0000FFFF : 0;
}

// The greatest vertical weight: 2^13 over the support's power of two, so that float16 holds both the
// weights and, with bytes as multiples of 2^-24, the sums.
__device__ __forceinline__ float row_unit(float support) {
  return __int_as_float((127 + 13) * (1 << 23) - ((__float_as_int(support) & 0x7F800000) - 127 * (1 << 23)));
}

// The left operands of TILE outputs by CHUNK source pixels from `first`, as mma wants them.
__device__ __forceinline__ void row_weights(const Axis& axis, int tile, int first, uint32 (&a)[2][4]) {
  int lane = threadIdx.x % WARP, k = 2 * (lane % 4);
  float unit = row_unit(axis.support), step = unit * axis.step;
  float from = static_cast<float>(first + k) + 0.5f;
  float upper = (from - axis.centre(tile + lane / 4)) * step;
  float lower = (from - axis.centre(tile + lane / 4 + 8)) * step;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    a[i / 2][i % 2 * 2] = two_weights(upper + static_cast<float>(8 * i) * step, step, unit);
    a[i / 2][i % 2 * 2 + 1] = two_weights(lower + static_cast<float>(8 * i) * step, step, unit);
  }
  int count = axis.length - first;
  if (count < CHUNK) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      uint32 exist = two_exist(k + 8 * i, count);
      a[i / 2][i % 2 * 2] &= exist, a[i / 2][i % 2 * 2 + 1] &= exist;
    }
  }
}

// The right operands, `b[half of the chunk][half of the tile]`. A thread's accumulators are of
// columns 2t and 2t + 1 of each half: columns are dealt out so that these are pixels 4t to 4t + 3.
__device__ __forceinline__ int column_of(int half, int n) { return n / 2 * 4 + half * 2 + n % 2; }

__device__ __forceinline__ void column_weights(const Axis& axis, int tile, int first,
                                               uint32 (&b)[2][2][2]) {
  int lane = threadIdx.x % WARP, k = 2 * (lane % 4), count = axis.length - first;
  float step = axis.step, from = static_cast<float>(first + k) + 0.5f;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float distance = (from - axis.centre(tile + column_of(half, lane / 4))) * step;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      b[i / 2][half][i % 2] = two_weights(distance + static_cast<float>(8 * i) * step, step, 1.0f);
    if (count < CHUNK) {
#pragma unroll
      for (int i = 0; i < 4; ++i) b[i / 2][half][i % 2] &= two_exist(k + 8 * i, count);
    }
  }
}

// What was fetched lies at the end, so that its first 16 rows are overwritten by their own planes alone. Of 8
// rows the even ones come first, so that the banks of every 4 that are read together differ.
constexpr int RAW_BEGIN = (3 * PLANE * 2 - CHUNK * RAW_PITCH) / 16;
__device__ __forceinline__ constexpr int raw_slot(int i, int of_4) { return i / 2 * 8 + of_4 * 2 + i % 2; }

// Fetch the block in units of 16 bytes, and what lies beside and below it, though not past the last image.
__device__ __forceinline__ void fetch(const Source& source, uint4* shared) {
  int lane = threadIdx.x % WARP, unit = lane % 8, offset = source.offset(lane / 8);
  uint4* to = shared + RAW_BEGIN + raw_slot(0, lane / 8) * (RAW_PITCH / 16) + unit;
#pragma unroll
  for (int i = 0; i < CHUNK / 4; ++i, offset += 4 * source.pitch) {
    if (i == 4 && source.rows <= 16) break;
    int from = min((offset & ~15) + 16 * unit, source.last);
    if (unit < RAW_PITCH / 16) copy_async(to + raw_slot(i, 0) * (RAW_PITCH / 16), source.base + from);
  }
}

// Where a unit of 8 pixels lies: 16 rows of each channel, then the other 16. Units of a row are dealt
// out so that neither writing rows nor reading columns of units meets a bank twice.
__device__ __forceinline__ int chunk_unit(int row, int unit) { return row * 4 + (unit ^ (row / 2 % 4)); }
constexpr int CHANNEL = 16 * 4, HALF = 3 * CHANNEL;

// Turn what was fetched into three planes, in its place. A thread takes 4 pixels of each 4th row.
__device__ __forceinline__ void to_planes(const Source& source, uint4* shared) {
  int lane = threadIdx.x % WARP, quad = lane % 8;
  const uint4* first = shared + RAW_BEGIN + raw_slot(0, lane / 8) * (RAW_PITCH / 16);
  const uint32* raw = reinterpret_cast<const uint32*>(first) + 3 * quad;
  int unit = chunk_unit(lane / 8, quad / 2), offset = source.offset(lane / 8);
  wait_for_copies();
  __syncwarp();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (half == 1 && source.rows <= 16) break;
    uint32 words[4][3];
#pragma unroll
    for (int i = 0; i < 4; ++i, offset += 4 * source.pitch) {
      const uint32* word = raw + raw_slot(4 * half + i, 0) * (RAW_PITCH / 4) + (offset & 15) / 4;
#pragma unroll
      for (int j = 0; j < 3; ++j) words[i][j] = __funnelshift_r(word[j], word[j + 1], (offset & 3) * 8);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      // 4 rows further the units are dealt out with another bit.
      uint2* to = reinterpret_cast<uint2*>(shared + HALF * half + (unit ^ (i % 2 * 2)) + 16 * i) + quad % 2;
      const uint32 even = 0x00FF00FF;
      uint32 x = words[i][0], y = words[i][1], z = words[i][2];  // RGBR GBRG BRGB
      to[0] = make_uint2(__byte_perm(x, 0, 0x4340), __byte_perm(y, z, 0x0502) & even);
      to[2 * CHANNEL] = make_uint2(__byte_perm(x, y, 0x0401) & even, __byte_perm(y, z, 0x0603) & even);
      to[4 * CHANNEL] = make_uint2(__byte_perm(x, y, 0x0502) & even, __byte_perm(z, 0, 0x4340));
    }
  }
  __syncwarp();
}

// A warp's 16 x 16 pixels: red, green, blue; of each half of the columns, what mma gives a thread.
// Thread (g, t) = (lane / 4, lane % 4) has pixels 4t to 4t + 3 of rows g and g + 8.
struct Colours {
  float of[3][2][4];
};

// d += rows x planes x columns. load.template at<C, I, J>(b) gives 16 x 16 of channel C's plane: the Ith of
// the halves that the rows' weights go over, the Jth of the columns'. Channels take turns, so that none
// waits for its own last product.
template <int I, int J, class Load>
__device__ __forceinline__ void multiply_rows(float (&between)[3][2][4], const uint32 (&a)[4], const Load& load) {
  uint32 pixels[3][4];
  load.template at<0, I, J>(pixels[0]);
  load.template at<1, I, J>(pixels[1]);
  load.template at<2, I, J>(pixels[2]);
#pragma unroll
  for (int i = 0; i < 6; ++i) multiply(between[i % 3][i / 3], a, pixels[i % 3][i / 3 * 2], pixels[i % 3][i / 3 * 2 + 1]);
}

template <int J, class Load>
__device__ __forceinline__ void filter_half(Colours& d, const uint32 (&a)[2][4], const uint32 (&b)[2][2],
                                            bool tall, const Load& load) {
  float between[3][2][4] = {};
  multiply_rows<0, J>(between, a[0], load);
  if (tall) multiply_rows<1, J>(between, a[1], load);
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    const float(&x)[2][4] = between[c];
    uint32 left[4] = {two_float16(x[0][0], x[0][1]), two_float16(x[0][2], x[0][3]),
                      two_float16(x[1][0], x[1][1]), two_float16(x[1][2], x[1][3])};
    multiply(d.of[c][0], left, b[0][0], b[0][1]);
    multiply(d.of[c][1], left, b[1][0], b[1][1]);
  }
}

template <class Load>
__device__ __forceinline__ void filter(Colours& d, const uint32 (&a)[2][4], const uint32 (&b)[2][2][2],
                                       bool tall, bool wide, const Load& load) {
  filter_half<0>(d, a, b[0], tall, load);
  if (wide) filter_half<1>(d, a, b[1], tall, load);
}

// A thread's rows in the source's planes, in the left and the right half of its columns; of a transposed
// view these are not where the products' rows are, but where their columns are.
struct Halves {
  const uint4* of[2];

  __device__ Halves(const uint4* shared, bool transpose) {
    int lane = threadIdx.x % WARP, eight = lane / 8 % 2, other = lane / 16;
    int unit = chunk_unit(lane % 8 + 8 * (transpose ? other : eight), transpose ? eight : other);
    of[0] = shared + unit, of[1] = shared + (unit ^ 2);
  }
};

struct Upright {
  const Halves& halves;

  template <int C, int I, int J>
  __device__ __forceinline__ void at(uint32 (&b)[4]) const {
    load_transposed<I * HALF + C * CHANNEL>(b, halves.of[J]);
  }
};

struct Transposed {
  const Halves& halves;

  template <int C, int I, int J>
  __device__ __forceinline__ void at(uint32 (&b)[4]) const {
    load_matrices<J * HALF + C * CHANNEL>(b, halves.of[I]);
  }
};

// What the rows, or the columns, of a tile need; a warp keeps it while it goes along a row, or a column.
struct Rows {
  int tile = -1, first, end;
  uint32 a[2][4];    // of the last block of source pixels
  float inverse[2];  // of the sum of all weights
};

struct Columns {
  int tile = -1, first, end;
  uint32 b[2][2][2];
  float inverse[2][2];
};

// Resize 16 x 16 pixels, `top` and `left` pixels from the axes' starts, into [0, 1].
__device__ __forceinline__ void resize(const View& view, const Axis& down, const Axis& across, int top, int left,
                                       Rows& rows, Columns& columns, uint4* shared, Colours& colours) {
  bool transpose = view.flags & TRANSPOSE;
  Halves halves(shared, transpose);
  bool same_rows = rows.tile == top, same_columns = columns.tile == left;
  if (!same_rows) down.window(top, rows.first, rows.end);
  if (!same_columns) across.window(left, columns.first, columns.end);
  rows.tile = top, columns.tile = left;
  bool rows_known = same_rows && rows.end - rows.first <= CHUNK;
  bool columns_known = same_columns && columns.end - columns.first <= CHUNK;
  float row_sum[2] = {}, column_sum[2][2] = {};
  colours = {};
  for (int y = rows.first; y < rows.end; y += CHUNK) {
    for (int x = columns.first; x < columns.end; x += CHUNK) {
      int height = min(rows.end - y, CHUNK), width = min(columns.end - x, CHUNK);
      int rows_from = transpose ? x : y, columns_from = transpose ? y : x;
      Source source = view.source(rows_from, columns_from, transpose ? width : height);
      __syncwarp();  // what was there before may still be read
      fetch(source, shared);
      if (!rows_known && x == columns.first) {
        row_weights(down, top, y, rows.a);
        float sum[4] = {};
        multiply(sum, rows.a[0], BYTE_ONES, BYTE_ONES);
        multiply(sum, rows.a[1], BYTE_ONES, BYTE_ONES);
        row_sum[0] += sum[0], row_sum[1] += sum[2];
      }
      if (!columns_known) {
        column_weights(across, left, x, columns.b);
        if (y == rows.first) {
          const uint32 ones[4] = {ONES, ONES, ONES, ONES};
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float sum[4] = {};
            multiply(sum, ones, columns.b[0][half][0], columns.b[0][half][1]);
            multiply(sum, ones, columns.b[1][half][0], columns.b[1][half][1]);
            column_sum[half][0] += sum[0], column_sum[half][1] += sum[1];
          }
        }
      }
      to_planes(source, shared);
      if (transpose) filter(colours, rows.a, columns.b, height > 16, width > 16, Transposed{halves});
      else filter(colours, rows.a, columns.b, height > 16, width > 16, Upright{halves});
    }
  }
  if (!rows_known) rows.inverse[0] = reciprocal(255.0f * row_sum[0]), rows.inverse[1] = reciprocal(255.0f * row_sum[1]);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (!columns_known) columns.inverse[half][0] = reciprocal(column_sum[half][0]);
    if (!columns_known) columns.inverse[half][1] = reciprocal(column_sum[half][1]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float gain = rows.inverse[i / 2] * columns.inverse[half][i % 2];
#pragma unroll
      for (int channel = 0; channel < 3; ++channel) colours.of[channel][half][i] *= gain;
    }
  }
}

// ---- Colour ---------------------------------------------------------------------------------

// ITU-R BT.601.
__device__ __forceinline__ float luma(float red, float green, float blue) {
  return 0.299f * red + 0.587f * green + 0.114f * blue;
}

// Turn the hue of HSV; saturation and value stay. Hue is in sixths of a turn, red at 0, green at 2,
// blue at 4: a channel is at its highest within 1 of its own hue, at its lowest beyond 2.
__device__ __forceinline__ void shift_hue(float& red, float& green, float& blue, float sixths) {
  float value = fmaxf(fmaxf(red, green), blue);
  float chroma = value - fminf(fminf(red, green), blue);
  float scale = reciprocal(fmaxf(chroma, 1e-12f));
  float hue = (green - blue) * scale + sixths;
  hue = green == value ? (blue - red) * scale + (2.0f + sixths) : hue;
  hue = blue == value ? (red - green) * scale + (4.0f + sixths) : hue;
  // From here hue is in [-4, 8]; distances beyond half a turn are shorter the other way round.
  float from_red = fabsf(hue), from_green = fabsf(hue - 2.0f), from_blue = fabsf(hue - 4.0f);
  red = value - chroma * __saturatef(fminf(from_red, fabsf(6.0f - from_red)) - 1.0f);
  green = value - chroma * __saturatef(fminf(from_green, fabsf(6.0f - from_green)) - 1.0f);
  blue = value - chroma * __saturatef(fminf(from_blue, fabsf(6.0f - from_blue)) - 1.0f);
}

template <class Adjust>
__device__ __forceinline__ void each_pixel(Colours& colours, Adjust adjust) {
#pragma unroll
  for (int i = 0; i < 8; ++i)
    adjust(colours.of[0][i / 4][i % 4], colours.of[1][i / 4][i % 4], colours.of[2][i / 4][i % 4]);
}

// Apply the first `count` operations of the jitter; `mean` is the luma for contrast.
__device__ __forceinline__ void jitter(Colours& colours, const View& view, int count, float mean) {
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

// Where a unit of 8 pixels lies in a plane of AREA x AREA.
__device__ __forceinline__ int area_unit(int row, int unit) {
  return row * (AREA / 8) + (unit ^ (row % 8));
}

// The Gaussian, cut off at the radius; two neighbouring taps of it.
struct Gaussian {
  float radius, exponent;

  __device__ float at(float distance) const {
    return fabsf(distance) <= radius ? power_of_two(exponent * distance * distance) : 0.0f;
  }

  __device__ uint32 two(float distance) const { return two_float16(at(distance), at(distance + 1.0f)); }
};

// The blur as operands of mma: output i is in the middle of source pixels i to i + 2 radius. Returns what
// makes the weights sum to 1.
__device__ __forceinline__ float blur_weights(float sigma, float radius, uint32 (&a)[2][4], uint32 (&b)[2][2][2]) {
  Gaussian gaussian = {radius, -0.72134752f / (sigma * sigma)};  // log2(e) / 2
  int lane = threadIdx.x % WARP;
  float first = static_cast<float>(2 * (lane % 4)) - radius, row = static_cast<float>(lane / 4);
  float left = static_cast<float>(column_of(0, lane / 4)), right = left + 2.0f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float k = first + static_cast<float>(8 * i);
    a[i / 2][i % 2 * 2] = gaussian.two(k - row), a[i / 2][i % 2 * 2 + 1] = gaussian.two(k - row - 8.0f);
    b[i / 2][0][i % 2] = gaussian.two(k - left), b[i / 2][1][i % 2] = gaussian.two(k - right);
  }
  float sum[4] = {};  // the same for every row, and for every column
  multiply(sum, a[0], ONES, ONES);
  multiply(sum, a[1], ONES, ONES);
  return reciprocal(sum[0] * sum[0]);
}

__device__ __forceinline__ void keep(const Colours& colours, int top, int left, uint4* planes) {
  int lane = threadIdx.x % WARP, unit = left / 8 + lane % 4 / 2;
#pragma unroll
  for (int channel = 0; channel < 3; ++channel) {
#pragma unroll
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

  __device__ Area(const uint4* planes, int height, int width, int top, int left) {
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int row = min(top + i / 2 * 16 + lane % 16, height - 1);
      int unit = min(left / 8 + i % 2 * 2 + lane / 16, width / 8 - 1);
      at_half[i / 2][i % 2] = planes + area_unit(row, unit);
    }
  }

  template <int C, int I, int J>
  __device__ __forceinline__ void at(uint32 (&b)[4]) const {
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

// Normalise, round and store a warp's pixels where they are seen.
__device__ __forceinline__ void store(Colours& colours, const Output& output, int size, int top,
                                      int left, const Rectangle& seen, const View& view, bool foreground) {
  int lane = threadIdx.x % WARP, x = left + lane % 4 * 4;
  Rectangle paste = paste_of(view);
#pragma unroll
  for (int channel = 0; channel < 3; ++channel) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float& value = colours.of[channel][i / 4][i % 4];
      value = value * output.scale[channel] + output.shift[channel];
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    int y = top + lane / 4 + 8 * i;
    bool in_rows = paste.top <= y && y < paste.bottom;
    uint32 visible = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      bool inside = in_rows && paste.left <= x + k && x + k < paste.right;
      if (inside == foreground && seen.left <= x + k && x + k < seen.right) visible |= 1u << k;
    }
    if (y < seen.top || y >= seen.bottom || !visible) continue;
    float v[12];  // interleaved
#pragma unroll
    for (int k = 0; k < 12; ++k) v[k] = colours.of[k % 3][k / 6][2 * i + k / 3 % 2];
    int at = y * size + x;
    bool whole = visible == 15 && size % 4 == 0;  // then aligned to 4 pixels, too
    if (whole) {
      *reinterpret_cast<uint32*>(output.mask + at) = foreground ? 0x01010101 : 0;
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (visible >> k & 1) output.mask[at + k] = foreground;
    }
    if (output.kind == FLOAT32) {
      float* to = static_cast<float*>(output.image) + 3 * at;
      if (whole) {
#pragma unroll
        for (int k = 0; k < 3; ++k)
          reinterpret_cast<float4*>(to)[k] = make_float4(v[4 * k], v[4 * k + 1], v[4 * k + 2], v[4 * k + 3]);
      } else {
#pragma unroll
        for (int k = 0; k < 12; ++k)
          if (visible >> (k / 3) & 1) to[k] = v[k];
      }
    } else {
      uint32 words[6];
#pragma unroll
      for (int k = 0; k < 6; ++k)
        words[k] = output.kind == BFLOAT16 ? two_bfloat16(v[2 * k], v[2 * k + 1])
                                           : two_float16(v[2 * k], v[2 * k + 1]);
      uint16* to = static_cast<uint16*>(output.image) + 3 * at;
      if (whole) {
#pragma unroll
        for (int k = 0; k < 3; ++k) reinterpret_cast<uint2*>(to)[k] = make_uint2(words[2 * k], words[2 * k + 1]);
      } else {
#pragma unroll
        for (int k = 0; k < 12; ++k)
          if (visible >> (k / 3) & 1) to[k] = static_cast<uint16>(words[k / 2] >> (k % 2 * 16));
      }
    }
  }
}

// ---- Kernels --------------------------------------------------------------------------------

__device__ __forceinline__ int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Do something for each of a warp's share of the tiles of height x width pixels, column by column.
template <class Do>
__device__ __forceinline__ void each_tile(int height, int width, Do act) {
  int warp = warp_number(), down = ceil_div(height, TILE), tiles = down * ceil_div(width, TILE);
  int first = warp * tiles / WARPS, left = (warp + 1) * tiles / WARPS - first;
  int y = first % down * TILE, x = first / down * TILE;
  for (; left > 0; --left) {
    act(y, x);
    y += TILE;
    if (y >= height) y = 0, x += TILE;
  }
}

// Blocks that share a view whose mean is a weighted sum: each finds the columns' weights anew.
constexpr int LINEAR_PARTS = 4;

// What brightness and saturation, the first `count` operations, multiply the mean luma by; -1 if it depends
// on the pixels. Neither clips while its factor is in [0, 1], and then saturation keeps every luma.
__device__ float linear_gain(const View& view, int count) {
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
__device__ float weight_in_all(const Axis& axis, int k) {
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

// This thread's part of the luma of all outputs that comes from some rows of the crop: a weighted sum of
// source pixels. `weights` is shared scratch for a float each column and row.
__device__ float luma_of_rows(const View& view, int top, int bottom, int size, float* weights) {
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

// Add up what the threads of the block have; in a fixed order.
__device__ __forceinline__ void store_sum(float total, float* sums, float* partial) {
#pragma unroll
  for (int step = WARP / 2; step > 0; step /= 2) total += __shfl_xor_sync(0xFFFFFFFF, total, step);
  if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = total;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < WARPS; ++i) sum += sums[i];
    partial[blockIdx.x] = sum;
  }
}

// The luma that contrast will see, summed over strips of TILE rows: one block a strip of a view.
// partial is float32 [B, 4, strips].
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    mean_luma(const uint8* pixels, int64 bytes, const int4* views, float* partial, int size, int strips) {
  __shared__ uint4 shared[WARPS][3 * PLANE / 8];
  __shared__ float sums[WARPS];
  int n = blockIdx.x / strips, strip = blockIdx.x % strips;
  int warp = warp_number(), lane = threadIdx.x % WARP;
  View view(pixels, bytes, views, n);
  if (!(view.flags & JITTER)) return;
  int before = 0;
  while ((view.flags >> (8 + 2 * before) & 3) != CONTRAST) ++before;
  float total = 0.0f, gain = linear_gain(view, before);
  if (gain >= 0.0f && view.width + view.height <= static_cast<int>(sizeof shared / sizeof(float))) {
    int parts = min(strips, LINEAR_PARTS);
    if (strip < parts) {
      int64 height = view.height;
      total = gain * luma_of_rows(view, static_cast<int>(height * strip / parts),
                                  static_cast<int>(height * (strip + 1) / parts), size,
                                  reinterpret_cast<float*>(shared));
    }
    store_sum(total, sums, partial);
    return;
  }
  bool transpose = view.flags & TRANSPOSE;
  int top = strip * TILE, height = min(size - top, TILE);
  Axis down(top, TILE, size, transpose ? view.width : view.height, view.flags & MIRROR_Y);
  Axis across(0, size, size, transpose ? view.height : view.width, view.flags & MIRROR_X);
  Rows kept;
  each_tile(TILE, size, [&](int, int x) {
    Columns fresh;
    Colours colours;
    resize(view, down, across, 0, x, kept, fresh, shared[warp], colours);
    jitter(colours, view, before, 0.0f);
    int rows = height - lane / 4, columns = size - x - lane % 4 * 4;  // that there are from here on
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float value = luma(colours.of[0][i / 4][i % 4], colours.of[1][i / 4][i % 4], colours.of[2][i / 4][i % 4]);
      total += rows > i % 4 / 2 * 8 && columns > i / 4 * 2 + i % 2 ? value : 0.0f;
    }
  });
  store_sum(total, sums, partial);
}

// The tile of this block: of a foreground, counted from the paste's corner; of a background, from the
// image's, and less what is hidden. A wider blur makes smaller tiles. They begin at multiples of 4.
__device__ Rectangle tile_of(int number, const View& view, bool foreground, int size, int radius) {
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

// Compose queries and keys: `tiles` blocks a layer, two layers an image, two images a sample, most of
// them with something to do. partial is mean_luma's.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    compose(const uint8* pixels, int64 bytes, const int4* views, const float* partial, int size, int strips, int tiles,
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
  uint64 before = static_cast<uint64>(n / 4) * size * size;  // pixels of other images
  Output output = {static_cast<uint8*>(n % 2 ? key : query) + before * (kind == FLOAT32 ? 12 : 6),
                   (n % 2 ? key_mask : query_mask) + before, kind,
                   {red_scale, green_scale, blue_scale}, {red_shift, green_shift, blue_shift}};
  int operations = 0;
  float mean = 0.0f;
  if (view.flags & JITTER) {
    operations = 4;
    for (int i = 0; i < strips; ++i) mean += partial[n * strips + i];
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
