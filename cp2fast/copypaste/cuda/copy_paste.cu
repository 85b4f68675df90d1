// Copy-paste on an NVIDIA GPU: from decoded photos to composed pairs, in three kernels.
//
//     plan        cuts the views into items of work, heavy views first (work.cuh)
//     mean_luma   an item: some tiles or rows of a view -> luma of its pixels before contrast
//     compose     an item: an area of one layer         -> its pixels and mask
//
// A warp resizes 16 x 16 pixels at a time with matrix products on tensor cores (resize.cuh), and
// adjusts their colours in float32 in the accumulators (colour.cuh). A view without a blur is
// stored from there (store.cuh). A view with a blur is kept in shared memory as float16 planes of
// the whole area, then blurred with the same kind of products (blur.cuh). If all operations before
// contrast are linear, the mean is a weighted sum of source pixels (linear.cuh).
//
// A grid has about as many blocks as fit on the GPU at the same time, and they take items in turn:
// with a block per item, the areas of large photos would hold up the rest. A block has four warps.
// On compute capability 8.0, 9.0 and 10.0, a multiprocessor has room for four blocks of compose, with
// 128 registers per thread and 39 KiB of shared memory, or for five of mean_luma, with 96 registers
// and 24 KiB. The limit is instructions rather than bytes: issuing them, and also fetching them, so
// the loops over tiles are kept below 32 KiB; with 45 KB, warps waited for them (docs/speed.md).
//
// Every sum has a fixed order, so the result for a sample does not depend on the rest of the batch.
//
// Each kernel is compiled by itself, all at a time (compile.py); WITH_PLAN, WITH_MEAN_LUMA or
// WITH_COMPOSE is defined.

#include "store.cuh"
#include "work.cuh"

// Blocks that a multiprocessor has room for; those of the first case have at least 163 KiB of shared
// memory, the others 99.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 800 || __CUDA_ARCH__ == 870 || \
    __CUDA_ARCH__ == 900 || __CUDA_ARCH__ / 100 == 10
constexpr int COMPOSE_BLOCKS = 4, MEAN_BLOCKS = 5;
#else
constexpr int COMPOSE_BLOCKS = 2, MEAN_BLOCKS = 3;
#endif

#ifdef WITH_PLAN

constexpr int PLANNERS = 1024;  // threads of a block of plan

// The sum over the threads before this one, and over all; `sums` is shared.
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

// Make both lists of work, for `count` views; `ends` is the number of blocks that will ask. Odd
// blocks make compose's list, even ones mean_luma's. Each block of a list finds the places of all
// views' items, and writes those of its share of the views.
extern "C" __global__ void __launch_bounds__(PLANNERS, 1)
    plan(const int4* views, int count, int size, int4* lists, int length, int ends) {
  __shared__ int sums[PLANNERS / WARP];
  bool composing = blockIdx.x % 2;
  int lane = lane_number(), share = blockIdx.x / 2, shares = gridDim.x / 2;
  int4* list = lists + (composing ? length : 0);
  int heavies = 0;
  for (int n = threadIdx.x; n < count; n += PLANNERS) {
    View view(nullptr, 0, views, n);
    if (heavy(view, size)) heavies += items_of(view, n, size, composing);
  }
  sum_before(heavies, sums, heavies);
  int next_heavy = 1, next = 1 + heavies;
  for (int first = 0; first < count; first += PLANNERS) {
    int n = first + threadIdx.x, items = 0;
    bool is_heavy = false;
    if (n < count) {
      View view(nullptr, 0, views, n);
      is_heavy = heavy(view, size), items = items_of(view, n, size, composing);
    }
    int all_heavy, all;
    int before_heavy = sum_before(is_heavy ? items : 0, sums, all_heavy);
    int before = sum_before(is_heavy ? 0 : items, sums, all);
    int place = is_heavy ? next_heavy + before_heavy : next + before;
    // A warp writes the items of its share of its threads' views, one view after another.
    for (int k = share; k < WARP; k += shares) {
      int of = __shfl_sync(0xFFFFFFFF, n, k), its_items = __shfl_sync(0xFFFFFFFF, items, k);
      int begin = __shfl_sync(0xFFFFFFFF, place, k);
      if (its_items == 0) continue;
      View view(nullptr, 0, views, of);
      for (int number = lane; number < its_items; number += WARP)
        list[begin + number] = item_of(view, of, number, size, composing);
    }
    next_heavy += all_heavy, next += all;
  }
  if (share > 0) return;
  for (int i = threadIdx.x; i < ends; i += PLANNERS) list[next + i] = {-1, 0, 0, 0};
  if (threadIdx.x == 0) list[0] = {0, 0, 0, 0};
}

#endif
#ifdef WITH_MEAN_LUMA

// This thread's part of the sum of the luma before contrast, over an item's tiles of the view. Its
// orientation does not matter.
DEVICE float luma_of_tiles(const View& view, int count, int number, int size, uint4* shared) {
  int warp = warp_number();
  Axis across(0, size, size, view.width, false), down(0, size, size, view.height, false);
  Strips strips(view, size);
  int begin = number * strips.each, tiles = min(strips.each, strips.across * strips.across - begin);
  float total = 0.0f;
  Left kept;
  for (int tile = begin + warp * tiles / WARPS, end = begin + (warp + 1) * tiles / WARPS; tile < end; ++tile) {
    int x = tile / strips.across * TILE, y = tile % strips.across * TILE;
    Colours colours;
    resize(view, across, down, x, y, kept, shared, colours);
    jitter(colours, view, count, 0.0f);
    int lane = lane_number();
    int columns = size - x - lane / 4, rows = size - y - lane % 4 * 4;  // remaining from here on
    for (int i = 0; i < 8; ++i) {
      float value = luma(colours.of[0][i / 4][i % 4], colours.of[1][i / 4][i % 4], colours.of[2][i / 4][i % 4]);
      total += columns > i % 4 / 2 * 8 && rows > i / 4 * 2 + i % 2 ? value : 0.0f;
    }
  }
  return total;
}

// Sum over the threads of the block, in a fixed order.
DEVICE void store_sum(float total, float* sums, float* to) {
  for (int step = WARP / 2; step > 0; step /= 2) total += __shfl_xor_sync(0xFFFFFFFF, total, step);
  if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = total;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0.0f;
    for (int i = 0; i < WARPS; ++i) sum += sums[i];
    *to = sum;
  }
}

// The sum of the luma that contrast will see, for each item. partial is float32 [views, parts], of
// which a view uses as many as it has items.
extern "C" __global__ void __launch_bounds__(THREADS, MEAN_BLOCKS)
    mean_luma(const uint8* pixels, int64 bytes, const int4* views, int4* lists, float* partial, int parts, int size) {
  __shared__ uint4 shared[LINEAR_WEIGHTS / 4];
  __shared__ float sums[WARPS];
  for (int4 item; (item = take(lists, shared)).x >= 0;) {
    View view(pixels, bytes, views, item.x);
    BeforeContrast before(view);
    int number = item.y;
    float total;
    if (before.linear(view)) {
      int top = view.height * number / item.z, bottom = view.height * (number + 1) / item.z;
      total = before.gain * luma_of_rows(view, top, bottom, size, reinterpret_cast<float*>(shared));
    } else {
      total = luma_of_tiles(view, before.count, number, size, shared + warp_number() * WARP_MEMORY);
    }
    store_sum(total, sums, partial + static_cast<int64>(item.x) * parts + number);
  }
}

#endif
#ifdef WITH_COMPOSE

// The mean of a view's luma before contrast, from its `count` sums.
DEVICE float mean_of(const float* sums, int count, int size) {
  float mean = 0.0f;
#pragma unroll 1
  for (int i = lane_number(); i < count; i += WARP) mean += sums[i];
  for (int step = WARP / 2; step > 0; step /= 2) mean += __shfl_xor_sync(0xFFFFFFFF, mean, step);
  return mean * reciprocal(static_cast<float>(size) * static_cast<float>(size));
}

// Call `act` for each tile in a warp's share of the width x height pixels, column by column.
template <class Do>
DEVICE void each_tile(int width, int height, Do act) {
  int warp = warp_number(), down = ceil_div(height, TILE), tiles = down * ceil_div(width, TILE);
  int first = warp * tiles / WARPS, left = (warp + 1) * tiles / WARPS - first;
  int x = first / down * TILE, y = first % down * TILE;
  for (; left > 0; --left) {
    act(x, y);
    y += TILE;
    if (y >= height) y = 0, x += TILE;
  }
}

// Compose queries and keys, item by item. lists come from plan, and partial from mean_luma.
extern "C" __global__ void __launch_bounds__(THREADS, COMPOSE_BLOCKS)
    compose(const uint8* pixels, int64 bytes, const int4* views, int4* lists, int length, const float* partial,
            int parts, int size, int kind, void* query, void* key, uint8* query_mask, uint8* key_mask, float red_scale,
            float green_scale, float blue_scale, float red_shift, float green_shift, float blue_shift) {
  __shared__ uint4 shared[WARPS * WARP_MEMORY];
  __shared__ uint4 planes[3 * AREA_PLANE];
  uint4* mine = shared + warp_number() * WARP_MEMORY;
  for (int4 item; (item = take(lists + length, shared)).x >= 0;) {
    int n = item.x;
    bool foreground = is_foreground(n);
    Rectangle seen = {item.y & 0xFFFF, item.z & 0xFFFF, item.y >> 16, item.z >> 16};
    View view(pixels, bytes, views, n);
    int radius = radius_of(view);
    uint64 before = static_cast<uint64>(n / 4) * size * size;  // pixels of the preceding images
    Output output = {static_cast<uint8*>(n % 2 ? key : query) + before * (kind == FLOAT32 ? 12 : 6),
                     (n % 2 ? key_mask : query_mask) + before, kind,
                     {red_scale, green_scale, blue_scale}, {red_shift, green_shift, blue_shift}};
    float mean = mean_of(partial + static_cast<int64>(n) * parts, item.w, size);
    // Everything up to the output is in the source's orientation.
    bool transposed = view.flags & TRANSPOSE;
    Rectangle area = transposed ? seen.transposed() : seen;
    int width = area.right - area.left, height = area.bottom - area.top;
    int wide = width + 2 * radius, high = height + 2 * radius;  // with the blur's halo
    Axis across(area.left - radius, wide, size, view.width, view.flags & (transposed ? MIRROR_Y : MIRROR_X));
    Axis down(area.top - radius, high, size, view.height, view.flags & (transposed ? MIRROR_X : MIRROR_Y));
    uint32* taps = reinterpret_cast<uint32*>(mine);
    // One pass without a blur, two with one: the first fills the planes, and the last stores the
    // output. They share their code, or compose would be too large for the instruction cache.
#pragma unroll 1
    for (bool blurring = false, last;; blurring = true) {
      last = blurring || radius == 0;
      Left kept;
      each_tile(blurring ? width : wide, blurring ? height : high, [&](int x, int y) {
        Colours colours = {};
        if (blurring) {
          uint32 a[2][4], b[2][2][2];
          float gain = blur_weights(taps, a, b);
          Area filled(planes, ceil_div(wide, TILE) * TILE, ceil_div(high, TILE) * TILE, x, y);
          filter<0>(colours, a, 32, b[0], filled);
          filter<1>(colours, a, 32, b[1], filled);
          each_pixel(colours, [=](float& r, float& g, float& b) { r *= gain, g *= gain, b *= gain; });
        } else {
          resize(view, across, down, x, y, kept, mine, colours);
          jitter(colours, view, view.flags & JITTER ? 4 : 0, mean);
          if (view.flags & GREY)
            each_pixel(colours, [](float& r, float& g, float& b) { r = g = b = luma(r, g, b); });
        }
        if (!last) return keep(colours, x, y, planes);
        if (!transposed) transpose(colours, reinterpret_cast<float*>(taps + TAPS));
        store(colours, output, size, seen.top + (transposed ? x : y), seen.left + (transposed ? y : x), seen, view,
              foreground);
      });
      if (last) break;
      __syncthreads();
      make_taps(view.sigma(), radius, taps);
    }
  }
}

#endif
