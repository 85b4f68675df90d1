// Crop and resize on tensor cores, with the same filter as Pillow's antialiased bilinear resize.
//
// A resize is a product of three matrices, rows x source x columns, of which the outer two are
// banded. A warp computes TILE x TILE pixels at a time: a block of at most CHUNK x CHUNK source
// pixels is converted to three planes of float16 in the warp's shared memory. The accumulators of
// the vertical product become, in registers, the left operand of the horizontal one. Larger filters
// are summed block by block.
//
// Orientations are free: mirroring is part of the filters, transposing part of the ldmatrix loads.
//
// A byte is used directly as the bits of a subnormal float16, b * 2^-24, which tensor cores
// multiply exactly; row_unit in the vertical weights compensates for the scale. Weights are divided
// by the sum of their rounded values. The only loss is the rounding between the two passes, 2^-12
// of a value.
#pragma once

#include "view.cuh"

constexpr int TILE = 16;       // side of the block of pixels that a warp computes at a time
constexpr int CHUNK = 32;      // side of the block of source pixels that a warp holds at a time
constexpr int RAW_PITCH = 112; // bytes of a row of CHUNK pixels, out to 16-byte boundaries
constexpr int PLANE = CHUNK * CHUNK;
constexpr int WARP_MEMORY = 3 * PLANE / 8;  // a warp's shared memory, in units of 16 bytes
constexpr uint32 BYTE_ONES = 0x00010001;  // the byte 1 twice

// One axis of a view's resize: output pixels from `start` on, and their source positions. Pixels
// beyond the view's edge repeat the edge; pixels beyond the `last` one needed repeat that one.
struct Axis {
  int start, last, length;
  float slope, origin, support, step;

  DEVICE Axis(int start, int count, int size, int length, bool mirror)
      : start(start), last(min(start + count, size) - 1), length(length) {
    float scale = static_cast<float>(length) * reciprocal(static_cast<float>(size));
    slope = mirror ? -scale : scale;
    origin = mirror ? static_cast<float>(length) - 0.5f * scale : 0.5f * scale;
    support = fmaxf(scale, 1.0f), step = reciprocal(support);
  }

  // Centre of output pixel `i`, counted from start, in source pixels.
  DEVICE float centre(int i) const {
    return static_cast<float>(min(max(start + i, 0), last)) * slope + origin;
  }

  // The source pixels under the TILE outputs from `i` on: the first, and one after the last.
  DEVICE void window(int i, int& first, int& end) const {
    float one = centre(i), other = centre(i + TILE - 1);
    first = max(static_cast<int>(fminf(one, other) - support + 0.5f), 0);
    end = min(static_cast<int>(fmaxf(one, other) + support + 0.5f), length);
  }
};

// Weights of source pixels k and k + 1 for an output whose centre is `distance` before k; at most
// `unit`.
DEVICE uint32 two_weights(float distance, float step, float unit) {
  return two_float16(fmaxf(unit - fabsf(distance), 0.0f), fmaxf(unit - fabsf(distance + step), 0.0f));
}
DEVICE uint32 two_weights(float distance, float step) {  // at most 1
  return two_float16(__saturatef(1.0f - fabsf(distance)), __saturatef(1.0f - fabsf(distance + step)));
}

// Mask for those of the pixels k and k + 1 that exist among `count`.
DEVICE uint32 two_exist(int k, int count) {
  return k + 1 < count ? 0xFFFFFFFF : k < count ? 0x0000FFFF : 0;
}

// The largest vertical weight: 2^13 divided by the support's power of two, so that float16 can hold
// the weights and, with bytes as multiples of 2^-24, the sums.
DEVICE float row_unit(float support) {
  return __int_as_float((127 + 13) * (1 << 23) - ((__float_as_int(support) & 0x7F800000) - 127 * (1 << 23)));
}

// The left operands for TILE outputs from CHUNK source pixels starting at `first`, in mma's layout.
DEVICE void row_weights(const Axis& axis, int tile, int first, uint32 (&a)[2][4]) {
  int lane = lane_number(), k = 2 * (lane % 4);
  float unit = row_unit(axis.support), step = unit * axis.step;
  float from = static_cast<float>(first + k) + 0.5f;
  float upper = (from - axis.centre(tile + lane / 4)) * step;
  float lower = (from - axis.centre(tile + lane / 4 + 8)) * step;
  for (int i = 0; i < 4; ++i) {
    a[i / 2][i % 2 * 2] = two_weights(upper + static_cast<float>(8 * i) * step, step, unit);
    a[i / 2][i % 2 * 2 + 1] = two_weights(lower + static_cast<float>(8 * i) * step, step, unit);
  }
  int count = axis.length - first;
  if (count < CHUNK) {
    for (int i = 0; i < 4; ++i) {
      uint32 exist = two_exist(k + 8 * i, count);
      a[i / 2][i % 2 * 2] &= exist, a[i / 2][i % 2 * 2 + 1] &= exist;
    }
  }
}

// The right operands, `b[half of the chunk][half of the tile]`. A thread's accumulators belong to
// columns 2t and 2t + 1 of each half; columns are permuted so that these are pixels 4t to 4t + 3.
DEVICE int column_of(int half, int n) { return n / 2 * 4 + half * 2 + n % 2; }

DEVICE void column_weights(const Axis& axis, int tile, int first, uint32 (&b)[2][2][2]) {
  int lane = lane_number(), k = 2 * (lane % 4), count = axis.length - first;
  float step = axis.step, from = static_cast<float>(first + k) + 0.5f;
  for (int half = 0; half < 2; ++half) {
    float distance = (from - axis.centre(tile + column_of(half, lane / 4))) * step;
    for (int i = 0; i < 4; ++i)
      b[i / 2][half][i % 2] = two_weights(distance + static_cast<float>(8 * i) * step, step);
    if (count < CHUNK) {
      for (int i = 0; i < 4; ++i) b[i / 2][half][i % 2] &= two_exist(k + 8 * i, count);
    }
  }
}

// Raw data is placed at the end, so that converting its first 16 rows to planes overwrites only
// these rows. Of every 8 rows the even ones come first, so that any 4 that are read together use
// different banks.
constexpr int RAW_BEGIN = (3 * PLANE * 2 - CHUNK * RAW_PITCH) / 16;
DEVICE constexpr int raw_slot(int i, int of_4) { return i / 2 * 8 + of_4 * 2 + i % 2; }

// Fetch the block, with what is beside and below it, in units of 16 bytes; not beyond the last
// image.
DEVICE void fetch(const Source& source, uint4* shared) {
  int lane = lane_number(), unit = lane % 8, offset = source.offset(lane / 8);
  uint4* to = shared + RAW_BEGIN + raw_slot(0, lane / 8) * (RAW_PITCH / 16) + unit;
#pragma unroll
  for (int i = 0; i < CHUNK / 4; ++i, offset += 4 * source.pitch) {
    if (i == 4 && source.rows <= 16) break;
    int from = min((offset & ~15) + 16 * unit, source.last);
    if (unit < RAW_PITCH / 16) copy_async(to + raw_slot(i, 0) * (RAW_PITCH / 16), source.base + from);
  }
}

// Position of a unit of 8 pixels: 16 rows of each channel, then the other 16. Units of a row are
// permuted so that neither writing rows nor reading columns of units has bank conflicts.
DEVICE int chunk_unit(int row, int unit) { return row * 4 + (unit ^ (row / 2 % 4)); }
constexpr int CHANNEL = 16 * 4, HALF = 3 * CHANNEL;

// Convert the raw data to three planes in place. A thread handles 4 pixels of every 4th row.
DEVICE void to_planes(const Source& source, uint4* shared) {
  int lane = lane_number(), quad = lane % 8;
  const uint4* first = shared + RAW_BEGIN + raw_slot(0, lane / 8) * (RAW_PITCH / 16);
  const uint32* raw = reinterpret_cast<const uint32*>(first) + 3 * quad;
  int unit = chunk_unit(lane / 8, quad / 2), offset = source.offset(lane / 8);
  wait_for_copies();
  __syncwarp();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (half == 1 && source.rows <= 16) break;
    uint32 words[4][3];
    for (int i = 0; i < 4; ++i, offset += 4 * source.pitch) {
      const uint32* word = raw + raw_slot(4 * half + i, 0) * (RAW_PITCH / 4) + (offset & 15) / 4;
      for (int j = 0; j < 3; ++j) words[i][j] = __funnelshift_r(word[j], word[j + 1], (offset & 3) * 8);
    }
    __syncwarp();
    for (int i = 0; i < 4; ++i) {
      // 4 rows further on, another bit permutes the units.
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

// A warp's 16 x 16 pixels: red, green, blue; for each half of the columns, a thread's mma results.
// Thread (g, t) = (lane / 4, lane % 4) has pixels 4t to 4t + 3 of rows g and g + 8.
struct Colours {
  float of[3][2][4];
};

// d += rows x planes x columns. load.template at<C, I, J>(b) loads 16 x 16 pixels of channel C's
// plane: the Ith half along the rows' weights, the Jth half along the columns'. Channels alternate,
// so that no product waits for the previous one of its channel.
template <int I, int J, class Load>
DEVICE void multiply_rows(float (&between)[3][2][4], const uint32 (&a)[4], const Load& load) {
  uint32 pixels[3][4];
  load.template at<0, I, J>(pixels[0]);
  load.template at<1, I, J>(pixels[1]);
  load.template at<2, I, J>(pixels[2]);
  for (int i = 0; i < 6; ++i)
    multiply(between[i % 3][i / 3], a, pixels[i % 3][i / 3 * 2], pixels[i % 3][i / 3 * 2 + 1]);
}

template <int J, class Load>
DEVICE void filter_half(Colours& d, const uint32 (&a)[2][4], const uint32 (&b)[2][2], bool tall,
                        const Load& load) {
  float between[3][2][4] = {};
  multiply_rows<0, J>(between, a[0], load);
  if (tall) multiply_rows<1, J>(between, a[1], load);
  for (int c = 0; c < 3; ++c) {
    const float(&x)[2][4] = between[c];
    uint32 left[4] = {two_float16(x[0][0], x[0][1]), two_float16(x[0][2], x[0][3]),
                      two_float16(x[1][0], x[1][1]), two_float16(x[1][2], x[1][3])};
    multiply(d.of[c][0], left, b[0][0], b[0][1]);
    multiply(d.of[c][1], left, b[1][0], b[1][1]);
  }
}

template <class Load>
DEVICE void filter(Colours& d, const uint32 (&a)[2][4], const uint32 (&b)[2][2][2], bool tall, bool wide,
                   const Load& load) {
  filter_half<0>(d, a, b[0], tall, load);
  if (wide) filter_half<1>(d, a, b[1], tall, load);
}

// A thread's rows in the source's planes, for the left and the right half of its columns. In a
// transposed view, the source's rows correspond to the columns of the products.
struct Halves {
  const uint4* of[2];

  DEVICE Halves(const uint4* shared, bool transpose) {
    int lane = lane_number(), eight = lane / 8 % 2, other = lane / 16;
    int unit = chunk_unit(lane % 8 + 8 * (transpose ? other : eight), transpose ? eight : other);
    of[0] = shared + unit, of[1] = shared + (unit ^ 2);
  }
};

template <bool TRANSPOSED>
struct Pixels {
  const Halves& halves;

  template <int C, int I, int J>
  DEVICE void at(uint32 (&b)[4]) const {
    if (TRANSPOSED) load_matrices<J * HALF + C * CHANNEL>(b, halves.of[I]);
    else load_transposed<I * HALF + C * CHANNEL>(b, halves.of[J]);
  }
};

// Weights for the rows, or the columns, of a tile; a warp reuses them along a row, or a column, of
// tiles.
struct Rows {
  int tile = -1, first, end;
  uint32 a[2][4];  // for the last block of source pixels
};

struct Columns {
  int tile = -1, first, end;
  uint32 b[2][2][2];
};

// Resize 16 x 16 pixels, `top` and `left` pixels from the axes' starts, to values in [0, 1].
DEVICE void resize(const View& view, const Axis& down, const Axis& across, int top, int left, Rows& rows,
                   Columns& columns, uint4* shared, Colours& colours) {
  bool transpose = view.flags & TRANSPOSE;
  Halves halves(shared, transpose);
  bool same_rows = rows.tile == top, same_columns = columns.tile == left;
  if (!same_rows) down.window(top, rows.first, rows.end);
  if (!same_columns) across.window(left, columns.first, columns.end);
  rows.tile = top, columns.tile = left;
  bool rows_known = same_rows && rows.end - rows.first <= CHUNK;
  bool columns_known = same_columns && columns.end - columns.first <= CHUNK;
  float row_sum[4] = {}, column_sum[2][4] = {};  // of all weights
  colours = {};
  for (int y = rows.first; y < rows.end; y += CHUNK) {
    for (int x = columns.first; x < columns.end; x += CHUNK) {
      int height = min(rows.end - y, CHUNK), width = min(columns.end - x, CHUNK);
      int rows_from = transpose ? x : y, columns_from = transpose ? y : x;
      Source source = view.source(rows_from, columns_from, transpose ? width : height);
      __syncwarp();  // other threads may still read the previous content
      fetch(source, shared);
      if (x == columns.first) {
        if (!rows_known) row_weights(down, top, y, rows.a);
        multiply(row_sum, rows.a[0], BYTE_ONES, BYTE_ONES);
        multiply(row_sum, rows.a[1], BYTE_ONES, BYTE_ONES);
      }
      if (!columns_known) column_weights(across, left, x, columns.b);
      if (y == rows.first) {
        const uint32 ones[4] = {ONES, ONES, ONES, ONES};
        for (int i = 0; i < 4; ++i)
          multiply(column_sum[i % 2], ones, columns.b[i / 2][i % 2][0], columns.b[i / 2][i % 2][1]);
      }
      to_planes(source, shared);
      if (transpose) filter(colours, rows.a, columns.b, height > 16, width > 16, Pixels<true>{halves});
      else filter(colours, rows.a, columns.b, height > 16, width > 16, Pixels<false>{halves});
    }
  }
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 4; ++i) {
      float gain = reciprocal(255.0f * row_sum[i / 2 * 2]) * reciprocal(column_sum[half][i % 2]);
      for (int channel = 0; channel < 3; ++channel) colours.of[channel][half][i] *= gain;
    }
  }
}
