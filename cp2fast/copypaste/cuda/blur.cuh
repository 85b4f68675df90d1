// The Gaussian blur of a block's area, by the same matrix products as the resize. It is the same
// for both axes, so it does not matter if the area is transposed.
#pragma once

#include "resize.cuh"

constexpr int AREA = 64;  // side of the area that a block computes, with the blur's halo
constexpr int AREA_PLANE = AREA * AREA / 8;  // a channel of it as float16, in units of 16 bytes

// Position of a unit of 8 pixels in a plane of AREA x AREA. Units of a row are permuted against
// bank conflicts.
DEVICE int area_unit(int row, int unit) { return row * (AREA / 8) + (unit ^ (row % 8)); }

// Store 16 x 16 pixels for the blur.
DEVICE void keep(const Colours& colours, int top, int left, uint4* planes) {
  int lane = lane_number(), unit = left / 8 + lane % 4 / 2;
  for (int channel = 0; channel < 3; ++channel) {
    for (int i = 0; i < 2; ++i) {
      const float(&half)[2][4] = colours.of[channel];
      uint4* to = planes + channel * AREA_PLANE + area_unit(top + lane / 4 + 8 * i, unit);
      reinterpret_cast<uint2*>(to)[lane % 2] =
          make_uint2(two_float16(half[0][2 * i], half[0][2 * i + 1]),
                     two_float16(half[1][2 * i], half[1][2 * i + 1]));
    }
  }
}

// The Gaussian, cut off at the radius, at whole distances from -radius - 15 to 30 - radius: each
// entry has two adjacent taps. Every warp makes the table in its own shared memory.
constexpr int TAPS = 46, TAP_0 = 15;  // entries; the one at -radius
static_assert(4 * WARP_MEMORY >= TAPS + TRANSPOSED && TAPS % 2 == 0, "both are in a warp's memory, the latter aligned");

DEVICE void make_taps(float sigma, int radius, uint32* taps) {
  float exponent = -0.72134752f * reciprocal(sigma * sigma);  // log2(e) / 2
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

// The blur as operands of mma: output i is centred in source pixels i to i + 2 radius. Returns the
// factor that normalises the sum of the weights to 1.
DEVICE float blur_weights(const uint32* taps, uint32 (&a)[2][4], uint32 (&b)[2][2][2]) {
  int lane = lane_number();
  const uint32 *row = taps + TAP_0 + 2 * (lane % 4) - lane / 4;
  const uint32 *column = taps + TAP_0 + 2 * (lane % 4) - output_of(0, lane / 4);
  for (int i = 0; i < 4; ++i) {
    a[i / 2][i % 2 * 2] = row[8 * i], a[i / 2][i % 2 * 2 + 1] = row[8 * i - 8];
    b[i / 2][0][i % 2] = column[8 * i], b[i / 2][1][i % 2] = column[8 * i - 2];
  }
  float sum[4] = {};  // the same for every row and every column
  multiply(sum, a[0], ONES, ONES);
  multiply(sum, a[1], ONES, ONES);
  return reciprocal(sum[0] * sum[0]);
}

// The area to be blurred. Pixels beyond the filled part have a weight of 0, but must be valid
// numbers, so the edge is read again instead.
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

  template <int I, int J>
  DEVICE void at(uint32 (&b)[3][4]) const {
    load_transposed<0>(b[0], at_half[I][J]);
    load_transposed<AREA_PLANE>(b[1], at_half[I][J]);
    load_transposed<2 * AREA_PLANE>(b[2], at_half[I][J]);
  }
};
