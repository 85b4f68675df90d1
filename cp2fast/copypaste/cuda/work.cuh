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
DEVICE bool heavy(const View& view, int size) { return max(view.height, view.width) > 3 * size; }

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

DEVICE int radius_of(const View& view) { return static_cast<int>(ceilf(3.0f * view.sigma())); }

// Foregrounds are cut into areas from the paste's corner on, backgrounds from the image's corner on.
// A wider blur makes areas smaller. They start at multiples of 4 pixels.
struct Areas {
  int side, top, left, bottom, right, across, count;

  DEVICE Areas(const View& view, bool foreground, int size) {
    Rectangle paste = paste_of(view);
    side = ((heavy(view, size) ? AREA / 2 : AREA) - 2 * radius_of(view)) / 4 * 4;
    top = foreground ? paste.top : 0, left = foreground ? paste.left / 4 * 4 : 0;
    bottom = foreground ? paste.bottom : size, right = foreground ? paste.right : size;
    across = ceil_div(right - left, side), count = across * ceil_div(bottom - top, side);
  }

  // An area; of a background's, without the hidden part if what remains is a rectangle.
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

DEVICE bool is_foreground(int view) { return view % 4 < 2; }

DEVICE int items_of(const View& view, int n, int size, bool composing) {
  return composing ? Areas(view, is_foreground(n), size).count : mean_items(view, size);
}

DEVICE int4 item_of(const View& view, int n, int number, int size, bool composing) {
  int means = mean_items(view, size);
  if (!composing) return {n, number, means, 0};
  Rectangle seen = Areas(view, is_foreground(n), size).seen(number, view, is_foreground(n));
  return {n, seen.top | seen.bottom << 16, seen.left | seen.right << 16, means};
}

// The next item of a list, for the whole block; its view is negative at the end. Each warp gets a
// copy in its own shared memory, and the shuffles tell the compiler that it is uniform in a warp.
DEVICE int4 take(int4* list, uint4 (*shared)[WARP_MEMORY]) {
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
