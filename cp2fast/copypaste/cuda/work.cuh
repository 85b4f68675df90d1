// How the work is cut into items of similar cost, listed, and taken by blocks.
//
// A list of work is int4 [length]: first a counter of the items taken, then the items, those of
// heavy views first so that none is left for the end, then an end mark for every block that asks.
// mean_luma and compose have a list each; an item is
//
//     of mean_luma   view, number of the item among the view's, number of the view's items, 0
//     of compose     view, its rows and its columns in the output (the first, and one after the
//                    last << 16), number of the view's items of mean_luma
#pragma once

#include "blur.cuh"
#include "linear.cuh"

// Source pixels that make another item of a linear view worth its cost: it has to compute the
// columns' weights again.
constexpr int LINEAR_PIXELS = 32768;

DEVICE int ceil_div(int a, int b) { return (a + b - 1) / b; }

// A view with many source pixels per output pixel is cut into smaller items, so that no block takes
// much longer than the others.
DEVICE bool heavy(const View& view, int size) { return max(view.height, view.width) > 6 * size; }

// How the tiles of a view whose mean needs a resize are shared between items, row by row.
struct Strips {
  int across, each, count;  // tiles of a row; tiles of an item; items

  DEVICE Strips(const View& view, int size) {
    across = ceil_div(size, TILE);
    each = heavy(view, size) ? WARPS : 2 * across, count = ceil_div(across * across, each);
  }
};

// The view's items of mean_luma.
DEVICE int mean_items(const View& view, int size) {
  if (!(view.flags & JITTER)) return 0;
  if (!BeforeContrast(view).linear(view)) return Strips(view, size).count;
  int across = ceil_div(size, TILE), most = ceil_div(across * across, WARPS);
  int64 worth = static_cast<int64>(view.height) * view.width / LINEAR_PIXELS + 1;
  return worth < most ? static_cast<int>(worth) : most;
}

// Below a thousandth of a pixel a blur changes nothing, and its square could be zero.
DEVICE int radius_of(const View& view) {
  return view.sigma() < 1e-3f ? 0 : static_cast<int>(ceilf(3.0f * view.sigma()));
}

// How a layer is cut into areas: a foreground from the paste's corner on, a background in the four
// bands around the paste. A wider blur makes areas smaller. They start at multiples of 4 pixels.
struct Areas {
  Rectangle paste;
  int size, side, bands, count = 0;

  DEVICE Areas(const View& view, bool foreground, int size)
      : paste(paste_of(view)), size(size), bands(foreground ? 1 : 4) {
    side = ((heavy(view, size) ? AREA / 2 : AREA) - 2 * radius_of(view)) / 4 * 4;
    for (int i = 0; i < bands; ++i) count += in_band(i);
  }

  // Above the paste, below it, left and right of it.
  DEVICE Rectangle band(int i) const {
    int left = paste.left / 4 * 4, right = paste.right / 4 * 4;
    if (bands == 1) return {paste.top, left, paste.bottom, paste.right};
    if (i < 2) return {i ? paste.bottom : 0, 0, i ? size : paste.top, size};
    return {paste.top, i == 2 ? 0 : right, paste.bottom, i == 2 ? paste.left : size};
  }

  DEVICE int in_band(int i) const {
    Rectangle all = band(i);
    return ceil_div(all.right - all.left, side) * ceil_div(all.bottom - all.top, side);
  }

  DEVICE Rectangle area(int number) const {
    int i = 0;
    for (; number >= in_band(i); ++i) number -= in_band(i);
    Rectangle all = band(i);
    int across = ceil_div(all.right - all.left, side);
    int top = all.top + number / across * side, left = all.left + number % across * side;
    return {top, left, min(top + side, all.bottom), min(left + side, all.right)};
  }
};

DEVICE bool is_foreground(int view) { return view % 4 < 2; }

DEVICE int items_of(const View& view, int n, int size, bool composing) {
  return composing ? Areas(view, is_foreground(n), size).count : mean_items(view, size);
}

DEVICE int4 item_of(const View& view, int n, int number, int size, bool composing) {
  int means = mean_items(view, size);
  if (!composing) return {n, number, means, 0};
  Rectangle seen = Areas(view, is_foreground(n), size).area(number);
  return {n, seen.top | seen.bottom << 16, seen.left | seen.right << 16, means};
}

// The next item of a list, for the whole block; its view is negative at the end. Each warp gets a
// copy in its own shared memory, and the shuffles tell the compiler that it is uniform in a warp.
DEVICE int4 take(int4* list, uint4* shared) {
  __syncthreads();
  if (threadIdx.x == 0) {
    int4 item = list[1 + atomicAdd(&list->x, 1)];
    for (int i = 0; i < WARPS; ++i) *reinterpret_cast<int4*>(shared + i * WARP_MEMORY) = item;
  }
  __syncthreads();
  int4 item = *reinterpret_cast<const int4*>(shared + threadIdx.x / WARP * WARP_MEMORY);
  __syncwarp();
  return {__shfl_sync(0xFFFFFFFF, item.x, 0), __shfl_sync(0xFFFFFFFF, item.y, 0),
          __shfl_sync(0xFFFFFFFF, item.z, 0), __shfl_sync(0xFFFFFFFF, item.w, 0)};
}
