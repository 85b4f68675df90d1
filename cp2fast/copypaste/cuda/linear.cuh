// The mean luma of a linear view: one whose operations before contrast are all linear in the
// pixels. It is a weighted sum of source pixels, and needs no resize.
#pragma once

#include "colour.cuh"

// Floats of a block's shared memory, for the weights of a view's columns and of an item's rows.
constexpr int LINEAR_WEIGHTS = 6144;
static_assert(LINEAR_WEIGHTS >= 4 * WARPS * WARP_MEMORY, "other views need this memory");

// The operations of a view's jitter before contrast.
struct BeforeContrast {
  int count = 0;
  float gain = 1.0f;  // the factor by which they change the mean luma; -1 if that depends on the pixels

  // Brightness and saturation do not clip if their factor is in [0, 1]; then saturation preserves
  // every luma.
  DEVICE BeforeContrast(const View& view) {
    bool linear = true;
    for (int operation; (operation = operation_of(view, count)) != CONTRAST; ++count) {
      float factor = view.factor(operation);
      linear = linear && operation != HUE && 0.0f <= factor && factor <= 1.0f;
      if (operation == BRIGHTNESS) gain *= factor;
    }
    if (!linear) gain = -1.0f;
  }

  DEVICE bool linear(const View& view) const {
    return gain >= 0.0f && view.width + view.height + 4 <= LINEAR_WEIGHTS;
  }
};

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

// The weighted luma of four pixels of a row, times 255 * 65536. They start `shift` bits into `words`.
DEVICE float luma_of_four(const uint32 (&words)[4], int shift, float4 weights) {
  constexpr uint32 RED_GREEN = 19595 | 38470u << 16, BLUE = 7471;
  uint32 x = __funnelshift_r(words[0], words[1], shift), y = __funnelshift_r(words[1], words[2], shift),
         z = __funnelshift_r(words[2], words[3], shift);  // RGBR GBRG BRGB
  uint32 pixels[4] = {x, __funnelshift_r(x, y, 24), __funnelshift_r(y, z, 16), z >> 8};
  float luma[4];
  for (int i = 0; i < 4; ++i)
    luma[i] = static_cast<float>(__dp2a_lo(RED_GREEN, pixels[i], __dp2a_hi(BLUE, pixels[i], 0u)));
  return weights.x * luma[0] + weights.y * luma[1] + weights.z * luma[2] + weights.w * luma[3];
}

// This thread's part of the sum of all outputs' luma that comes from some rows of the crop.
// `weights` is shared memory for LINEAR_WEIGHTS floats. A warp takes four rows at a time, to have
// more loads in flight.
DEVICE float luma_of_rows(const View& view, int top, int bottom, int size, float* weights) {
  int lane = lane_number(), quads = (view.width + 3) / 4, rows = bottom - top;
  float *of_row = weights + 4 * quads, total = 0.0f;
  Axis across(0, size, size, view.width, false), down(0, size, size, view.height, false);
  __syncthreads();
  for (int x = threadIdx.x; x < 4 * quads; x += THREADS) weights[x] = x < view.width ? weight_in_all(across, x) : 0.0f;
  for (int y = threadIdx.x; y < rows; y += THREADS) of_row[y] = weight_in_all(down, top + y);
  __syncthreads();
  for (int y = 4 * warp_number(); y < rows; y += 4 * WARPS) {
    const uint32* words[4];  // the words of each row, from the one with its first pixel on
    int shift[4], last[4];   // where that pixel starts in it, in bits; the last word that may be read
    float sum[4] = {};
    for (int i = 0; i < 4; ++i) {
      uint64 first = reinterpret_cast<uint64>(view.origin) + static_cast<uint64>(top + min(y + i, rows - 1)) * view.pitch;
      words[i] = reinterpret_cast<const uint32*>(first & ~3ull), shift[i] = static_cast<int>(first & 3) * 8;
      uint64 rest = (reinterpret_cast<uint64>(view.last) + 12 - (first & ~3ull)) / 4;
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
