// The output: visible pixels are normalised, rounded and stored, with their mask.
#pragma once

#include "resize.cuh"

enum { FLOAT32, BFLOAT16, FLOAT16 };

struct Output {
  void* image;  // [S, S, 3]
  uint8* mask;  // [S, S]
  int kind;
  float scale[3], shift[3];
};

// Write four interleaved pixels: all at once, or only those whose bit is set.
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

// Normalise, round and store the visible ones of 16 x 16 pixels; `seen` is the block's part of the
// output. The colours are used up.
DEVICE void store(Colours& colours, const Output& output, int size, int top, int left, const Rectangle& seen,
                  const View& view, bool foreground) {
  int lane = lane_number(), x = left + lane % 4 * 4;
  Rectangle paste = paste_of(view), tile = {top, left, top + TILE, left + TILE};
  bool plain = tile.in(seen) && (foreground ? tile.in(paste) : tile.beside(paste));  // all visible
  // The upper 8 rows, then the lower ones, which are moved up: unrolled, the loop would make compose
  // too large for the instruction cache.
#pragma unroll 1
  for (int y = top + lane / 4, end = y + TILE; y < end; y += 8) {
    float v[12];
    for (int k = 0; k < 12; ++k) {
      float(&quad)[4] = colours.of[k % 3][k / 6];
      v[k] = quad[k / 3 % 2] * output.scale[k % 3] + output.shift[k % 3];
      quad[k / 3 % 2] = quad[k / 3 % 2 + 2];
    }
    int at = y * size + x;
    uint32 visible = plain ? 15 : visible_of(y, x, seen, paste, foreground);
    if (!visible) continue;
    bool whole = visible == 15 && size % 4 == 0;  // then also aligned to 4 pixels
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
