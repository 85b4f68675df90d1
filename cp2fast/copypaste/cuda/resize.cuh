// Crop and resize on tensor cores, with the same filter as Pillow's antialiased bilinear resize.
//
// A resize is a product of three matrices, columns x source x rows, of which the outer two are
// banded. A warp computes TILE x TILE pixels at a time from blocks of at most COLUMNS x ROWS source
// pixels, which it copies to its shared memory. The horizontal product comes first: then a thread's
// operands are 4 adjacent pixels of a row, three words once they are shifted. The accumulators become,
// in registers, the left operand of the vertical product. Larger filters are summed block by block.
//
// Mirroring is part of the filters. The result has the source's orientation, transposed (Colours):
// a view whose output is transposed gets it for free, others transpose it at the end.
//
// A byte is used directly as the bits of a subnormal float16, b * 2^-24, which tensor cores
// multiply exactly; the scale of the horizontal weights compensates for that. Weights are divided
// by the sum of their rounded values. What is lost is the rounding of weights, by at most 2^-11 of
// each, and that of the sums between the two passes, by about 1/12 of a grey level, or 1/8 at the
// edges of crops that are enlarged.
#pragma once

#include "view.cuh"

constexpr int TILE = 16;                // side of the block of pixels that a warp computes at a time
constexpr int COLUMNS = 48, ROWS = 16;  // of the block of source pixels that a warp holds at a time
constexpr int PITCH = 11;               // of its rows, in units of 16 bytes; odd, as fewer banks conflict
constexpr int WARP_MEMORY = 228;        // a warp's shared memory, in the same units
static_assert(WARP_MEMORY >= ROWS * PITCH, "a block of source pixels needs this memory");
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

// The largest horizontal weight. Weights are scaled so that float16 can hold them and, with bytes as
// multiples of 2^-24, their sums; and so that these stay below 2^-3, where float16's steps double.
// An output's weights sum to 1 when enlarging, and to at most 9/8 of the support when shrinking.
DEVICE float left_unit(const Axis& axis) {
  return axis.support > 1.0f ? 7 * 1024.0f * axis.step : 8 * 1024.0f;
}

// The left operands for TILE outputs from COLUMNS source pixels starting at `first`, in mma's layout,
// with source pixels permuted so that a thread's are 4t to 4t + 3 of each 16.
DEVICE void left_weights(const Axis& axis, int tile, int first, uint32 (&a)[3][4]) {
  int lane = lane_number(), k = 4 * (lane % 4);
  float unit = left_unit(axis), step = unit * axis.step;
  float from = static_cast<float>(first + k) + 0.5f;
  float upper = (from - axis.centre(tile + lane / 4)) * step;
  float lower = (from - axis.centre(tile + lane / 4 + 8)) * step;
  for (int i = 0; i < 6; ++i) {
    float after = static_cast<float>(i / 2 * 16 + i % 2 * 2) * step;
    a[i / 2][i % 2 * 2] = two_weights(upper + after, step, unit);
    a[i / 2][i % 2 * 2 + 1] = two_weights(lower + after, step, unit);
  }
  int count = axis.length - first;
  if (count < COLUMNS) {
    for (int i = 0; i < 6; ++i) {
      uint32 exist = two_exist(k + i / 2 * 16 + i % 2 * 2, count);
      a[i / 2][i % 2 * 2] &= exist, a[i / 2][i % 2 * 2 + 1] &= exist;
    }
  }
}

// The right operands for TILE outputs from ROWS source pixels, `b[half of the tile]`. A thread's
// accumulators belong to outputs 2t and 2t + 1 of each half; outputs are permuted so that these are
// pixels 4t to 4t + 3.
DEVICE int output_of(int half, int n) { return n / 2 * 4 + half * 2 + n % 2; }

DEVICE void right_weights(const Axis& axis, const float (&centres)[2], int first, uint32 (&b)[2][2]) {
  int k = 2 * (lane_number() % 4), count = axis.length - first;
  float step = axis.step, from = static_cast<float>(first + k) + 0.5f;
  for (int half = 0; half < 2; ++half) {
    float distance = (from - centres[half]) * step;
    b[half][0] = two_weights(distance, step);
    b[half][1] = two_weights(distance + 8.0f * step, step);
  }
  if (count < ROWS) {
    for (int i = 0; i < 4; ++i) b[i / 2][i % 2] &= two_exist(k + i % 2 * 8, count);
  }
}

// Fetch the block's first `width` columns, with what is beside and below them, in units of 16 bytes;
// not beyond the last image.
DEVICE void fetch(const Source& source, int width, uint4* shared) {
  int lane = lane_number(), units = (3 * width + 30) / 16;  // of a row, wherever it starts
  auto at = [&](int row, int unit) { return source.base + min((source.offset(row) & ~15) + 16 * unit, source.last); };
  int row = lane / 8, unit = lane % 8;
  if (unit < units) {
    uint4* to = shared + row * PITCH + unit;
    copy_async<0>(to, at(row, unit));
    copy_async<4 * PITCH>(to, at(row + 4, unit));
    copy_async<8 * PITCH>(to, at(row + 8, unit));
    copy_async<12 * PITCH>(to, at(row + 12, unit));
  }
  row = lane / 2, unit = 8 + lane % 2;
  if (unit < units) copy_async<0>(shared + row * PITCH + unit, at(row, unit));
}

// A warp's 16 x 16 pixels: red, green, blue; for each half of the right operands' outputs, a
// thread's mma results. Thread (g, t) = (lane / 4, lane % 4) has pixels 4t to 4t + 3 of rows g and
// g + 8 or, until they are transposed, of columns g and g + 8.
struct Colours {
  float of[3][2][4];
};

// between += left weights x pixels. load.template at<I, J>(b) loads 16 x 16 pixels of each channel:
// the Ith 16 along the left weights, the Jth along the right ones. Channels alternate, so that no
// product waits for the previous one of its channel.
template <int I, int J, class Load>
DEVICE void multiply_left(float (&between)[3][2][4], const uint32 (&a)[4], const Load& load) {
  uint32 pixels[3][4];
  load.template at<I, J>(pixels);
  for (int i = 0; i < 6; ++i)
    multiply(between[i % 3][i / 3], a, pixels[i % 3][i / 3 * 2], pixels[i % 3][i / 3 * 2 + 1]);
}

// d += left weights x pixels x right weights, for 16 pixels along the right weights and the first
// `columns` along the left ones.
template <int J, int N, class Load>
DEVICE void filter(Colours& d, const uint32 (&a)[N][4], int columns, const uint32 (&b)[2][2], const Load& load) {
  float between[3][2][4] = {};
  multiply_left<0, J>(between, a[0], load);
  if (columns > 16) multiply_left<1, J>(between, a[1], load);
  if constexpr (N > 2) {
    if (columns > 32) multiply_left<2, J>(between, a[2], load);
  }
  for (int c = 0; c < 3; ++c) {
    const float(&x)[2][4] = between[c];
    uint32 left[4] = {two_float16(x[0][0], x[0][1]), two_float16(x[0][2], x[0][3]),
                      two_float16(x[1][0], x[1][1]), two_float16(x[1][2], x[1][3])};
    multiply(d.of[c][0], left, b[0][0], b[0][1]);
    multiply(d.of[c][1], left, b[1][0], b[1][1]);
  }
}

// A block of source pixels as right operands: source rows along the right weights.
struct Pixels {
  const uint32* words[2];  // of rows g and g + 8, with the first byte of this thread's pixels
  int shift;               // of that byte, in bits: the same for both, which are whole words apart

  // `row` is where row g would have this thread's pixels if it began at a 16-byte boundary.
  DEVICE Pixels(const Source& source, const uint32* row) {
    int offset = source.offset(lane_number() / 4);
    words[0] = row + (offset & 15) / 4;
    words[1] = row + 8 * PITCH * 4 + ((offset + 8 * source.pitch) & 15) / 4;
    shift = (offset & 3) * 8;
  }

  template <int I, int J>
  DEVICE void at(uint32 (&b)[3][4]) const {
    for (int i = 0; i < 2; ++i) {
      uint32 three[3];
      for (int j = 0; j < 3; ++j)
        three[j] = __funnelshift_r(words[i][12 * I + j], words[i][12 * I + j + 1], shift);
      uint32 x = three[0], y = three[1], z = three[2];  // RGBR GBRG BRGB
      uint32 even = y & 0x00FF00FF, odd = y & 0xFF00FF00;  // so that there are bytes of 0 to choose
      b[0][2 * i] = __byte_perm(x, 0, 0x4340), b[0][2 * i + 1] = __byte_perm(even, z, 0x1512);
      b[1][2 * i] = __byte_perm(x, even, 0x5451), b[1][2 * i + 1] = __byte_perm(odd, z, 0x0603);
      b[2][2 * i] = __byte_perm(x, odd, 0x4542), b[2][2 * i + 1] = __byte_perm(z, 0, 0x4340);
    }
  }
};

// Weights of a tile along the left axis; a warp reuses them for the tiles of a column.
struct Left {
  int tile = -1, first, end;
  uint32 a[3][4];  // for the last block of source pixels
  float gain[2];   // which make the sum of each output's weights 1 / 255
};

// Resize 16 x 16 pixels, `x` and `y` pixels from the axes' starts, to values in [0, 1]. The axes are
// those of the source's columns and rows.
DEVICE void resize(const View& view, const Axis& across, const Axis& down, int x, int y, Left& left, uint4* shared,
                   Colours& colours) {
  bool known = left.tile == x && left.end - left.first <= COLUMNS;
  if (left.tile != x) across.window(x, left.first, left.end);
  left.tile = x;
  int top, bottom;
  down.window(y, top, bottom);
  int lane = lane_number();
  const uint32* words = reinterpret_cast<const uint32*>(shared + lane / 4 * PITCH) + 3 * (lane % 4);
  float centres[2];
  for (int half = 0; half < 2; ++half) centres[half] = down.centre(y + output_of(half, lane / 4));
  float left_sum[4] = {}, right_sum[4] = {};  // of all weights; the right ones as [half][2]
  colours = {};
  for (int column = left.first; column < left.end; column += COLUMNS) {
    int width = min(left.end - column, COLUMNS);
    if (!known) {
      left_weights(across, x, column, left.a);
      for (int i = 0; i < 3; ++i) multiply(left_sum, left.a[i], BYTE_ONES, BYTE_ONES);
    }
    for (int row = top; row < bottom; row += ROWS) {
      Source source = view.source(row, column);
      __syncwarp();  // other threads may still read the previous content
      fetch(source, width, shared);
      uint32 b[2][2];
      right_weights(down, centres, row, b);
      if (column == left.first) {
        const uint32 upper[4] = {ONES, 0, ONES, 0}, lower[4] = {0, ONES, 0, ONES};
        multiply(right_sum, upper, b[0][0], b[0][1]);
        multiply(right_sum, lower, b[1][0], b[1][1]);
      }
      wait_for_copies();
      __syncwarp();
      filter<0>(colours, left.a, width, b, Pixels(source, words));
    }
  }
  if (!known) left.gain[0] = reciprocal(255.0f * left_sum[0]), left.gain[1] = reciprocal(255.0f * left_sum[2]);
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 4; ++i) {
      float gain = left.gain[i / 2] * reciprocal(right_sum[2 * half + i % 2]);
      for (int channel = 0; channel < 3; ++channel) colours.of[channel][half][i] *= gain;
    }
  }
}

// Transpose a warp's pixels, through TRANSPOSED floats of its shared memory, aligned to 8 bytes.
constexpr int TRANSPOSED_PITCH = 18;  // no bank conflicts when writing
constexpr int TRANSPOSED = 3 * TILE * TRANSPOSED_PITCH;

DEVICE void transpose(Colours& colours, float* shared) {
  int lane = lane_number(), four = lane % 4 * 4, one = lane / 4;
  __syncwarp();
  for (int i = 0; i < 24; ++i) {
    int row = i / 8 * TILE + four + i % 8 / 4 * 2 + i % 2;
    shared[row * TRANSPOSED_PITCH + one + i % 4 / 2 * 8] = colours.of[i / 8][i % 8 / 4][i % 4];
  }
  __syncwarp();
  for (int i = 0; i < 12; ++i) {
    int row = i / 4 * TILE + one + i % 2 * 8;
    float2 two = *reinterpret_cast<const float2*>(shared + row * TRANSPOSED_PITCH + four + i % 4 / 2 * 2);
    float(&to)[4] = colours.of[i / 4][i % 4 / 2];
    to[i % 2 * 2] = two.x, to[i % 2 * 2 + 1] = two.y;
  }
}
