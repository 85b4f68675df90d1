// A GPU played on a CPU: enough of CUDA C++ for g++ to build copy_paste.cu and run it.
//
// A block's threads are coroutines on one thread of the CPU. One runs until it meets its warp or its
// block; then another takes its turn, in random order, so that work which needs a barrier and has
// none goes wrong. Threads of a warp that meet in different instructions end the program, and so does
// a thread that waits for one that has returned. Shared memory begins as not-a-number, asynchronous
// copies happen when they are waited for. Blocks run one after another.

#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define ON_CPU
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shared_memory")))

struct int4 { int x, y, z, w; };
struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

using std::max;
using std::min;

namespace gpu {

constexpr int LANES = 32;
constexpr size_t STACK = 64 * 1024;

struct Index { int x; };

struct Copy {
  void* to;
  const void* from;
};

struct Thread {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[STACK]};
  std::vector<Copy> copies;
  bool waits = false, returned = false;
};

// What the threads of a warp, or of a block, have brought to the place where they meet.
struct Meeting {
  const char* place = nullptr;
  std::vector<void*> brought;
  size_t arrived = 0;
};

inline std::vector<Thread> threads;
inline std::vector<Meeting> warps;
inline Meeting block;
inline ucontext_t scheduler;
inline std::function<void()> kernel;
inline Index thread_index, block_index, grid_size;
inline uint64_t random_state = 1;

inline unsigned random_below(unsigned n) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<unsigned>(random_state >> 33) % n;
}

[[noreturn]] inline void fail(const char* what, const char* where) {
  std::fprintf(stderr, "block %d thread %d: %s %s\n", block_index.x, thread_index.x, what, where);
  std::exit(3);
}

#if defined(__SANITIZE_ADDRESS__)
inline const void* scheduler_stack;
inline size_t scheduler_size;
#endif

inline void wait() {
  Thread& thread = threads[thread_index.x];
#if defined(__SANITIZE_ADDRESS__)
  void* fake;
  __sanitizer_start_switch_fiber(thread.returned ? nullptr : &fake, scheduler_stack, scheduler_size);
#endif
  swapcontext(&thread.context, &scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_size);
#endif
}

inline void start() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
  kernel();
  threads[thread_index.x].returned = true;
  wait();
}

// Wait for the others; the last to come does `together` with what all have brought.
template <class Together>
void meet(Meeting& meeting, int rank, size_t first, const char* place, void* brought, Together together) {
  if (meeting.arrived == 0) meeting.place = place;
  if (std::strcmp(meeting.place, place) != 0) fail("others are elsewhere than at", place);
  meeting.brought[rank] = brought;
  size_t size = meeting.brought.size();
  if (++meeting.arrived < size) {
    threads[thread_index.x].waits = true;
    wait();
    return;
  }
  together(meeting.brought);
  meeting.arrived = 0;
  for (size_t i = 0; i < size; ++i) threads[first + i].waits = false;
}

template <class Together>
void meet_warp(const char* place, void* brought, Together together) {
  int thread = thread_index.x, warp = thread / LANES;
  meet(warps[warp], thread % LANES, warp * LANES, place, brought, together);
}

extern "C" char __start_shared_memory[], __stop_shared_memory[];

__attribute__((no_sanitize("address"), optimize("no-tree-loop-distribute-patterns"))) inline void forget() {
  for (volatile char* byte = __start_shared_memory; byte < __stop_shared_memory; ++byte) *byte = -1;
}

inline void run_block(int number, int size) {
  block_index.x = number;
  forget();
  for (int i = 0; i < size; ++i) {
    Thread& thread = threads[i];
    thread.waits = thread.returned = false;
    thread.copies.clear();
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = STACK;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, start, 0);
  }
  for (int left = size; left > 0;) {
    bool any = false;
    int offset = static_cast<int>(random_below(size)), stride = 2 * static_cast<int>(random_below(size / 2)) + 1;
    for (int i = 0; i < size; ++i) {
      int turn = (offset + i * stride) % size;  // all of them, as size is a power of two
      Thread& thread = threads[turn];
      if (thread.waits || thread.returned) continue;
      any = true;
      thread_index.x = turn;
#if defined(__SANITIZE_ADDRESS__)
      void* fake;
      __sanitizer_start_switch_fiber(&fake, thread.stack.get(), STACK);
#endif
      swapcontext(&scheduler, &thread.context);
#if defined(__SANITIZE_ADDRESS__)
      __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
      if (thread.returned) --left;
    }
    if (left > 0 && !any) fail("nobody can go on, some wait at", block.arrived ? block.place : "their warp");
  }
}

// kernel<<<blocks, size>>>(arguments...)
template <class Kernel, class... Arguments>
void launch(int blocks, int size, Kernel function, Arguments... arguments) {
  kernel = [=] { function(arguments...); };
  grid_size.x = blocks;
  threads.resize(size);
  warps.assign(size / LANES, Meeting{nullptr, std::vector<void*>(LANES), 0});
  block = Meeting{nullptr, std::vector<void*>(size), 0};
  for (int i = 0; i < blocks; ++i) run_block(i, size);
}

inline float from_float16(uint16_t bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  float magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                    : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                    : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return bits >> 15 ? -magnitude : magnitude;
}

inline float value_of(uint16_t bits) {
  static const std::vector<float> values = [] {
    std::vector<float> all(1 << 16);
    for (int i = 0; i < 1 << 16; ++i) all[i] = from_float16(static_cast<uint16_t>(i));
    return all;
  }();
  return values[bits];
}

inline uint16_t to_float16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return static_cast<uint16_t>(sign | 0x7E00);
  if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);
  if (magnitude < 113u << 23)  // ties go to even, as nearbyint has them
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::nearbyint(std::ldexp(std::fabs(value), 24))));
  return static_cast<uint16_t>(sign | (magnitude - (112u << 23) + 0xFFF + (magnitude >> 13 & 1)) >> 13);
}

inline uint16_t to_bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline uint16_t half_of(uint32_t packed, int i) { return static_cast<uint16_t>(packed >> (16 * i)); }

struct Product {
  float* d;
  const uint32_t* a;
  uint32_t b[2];
};

inline void multiply_together(const std::vector<void*>& lanes) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < LANES; ++lane) {
    const Product& mine = *static_cast<Product*>(lanes[lane]);
    int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half)
        a[g + i % 2 * 8][i / 2 * 8 + 2 * t + half] = value_of(half_of(mine.a[i], half));
    for (int i = 0; i < 2; ++i)
      for (int half = 0; half < 2; ++half) b[i * 8 + 2 * t + half][g] = value_of(half_of(mine.b[i], half));
  }
  for (int lane = 0; lane < LANES; ++lane) {
    float* d = static_cast<Product*>(lanes[lane])->d;
    for (int i = 0; i < 4; ++i) {
      int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      double sum = d[i];
      for (int k = 0; k < 16; ++k) sum += static_cast<double>(a[row][k]) * static_cast<double>(b[k][column]);
      d[i] = static_cast<float>(sum);
    }
  }
}

struct Matrices {
  uint32_t* to;
  const void* row;
};

inline void load_together(const std::vector<void*>& lanes) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t values[8][8];
    for (int row = 0; row < 8; ++row) {
      const void* from = static_cast<Matrices*>(lanes[8 * matrix + row])->row;
      if (reinterpret_cast<uintptr_t>(from) % 16) fail("not at a multiple of 16 bytes:", "ldmatrix");
      std::memcpy(values[row], from, 16);
    }
    for (int lane = 0; lane < LANES; ++lane) {
      int i = lane / 4, j = lane % 4 * 2;
      uint32_t low = values[j][i], high = values[j + 1][i];
      static_cast<Matrices*>(lanes[lane])->to[matrix] = low | high << 16;
    }
  }
}

}  // namespace gpu

#define threadIdx (gpu::thread_index)
#define blockIdx (gpu::block_index)
#define gridDim (gpu::grid_size)

inline void __syncwarp() { gpu::meet_warp("__syncwarp", nullptr, [](auto&) {}); }

inline void __syncthreads() {
  gpu::meet(gpu::block, gpu::thread_index.x, 0, "__syncthreads", nullptr, [](auto&) {});
}

template <class T>
struct Shuffled {
  T value, result;
  int from;
};

template <class T>
T shuffle(const char* name, T value, int from) {
  Shuffled<T> mine{value, T{}, from};
  gpu::meet_warp(name, &mine, [](const std::vector<void*>& lanes) {
    for (void* lane : lanes) {
      auto* own = static_cast<Shuffled<T>*>(lane);
      own->result = static_cast<Shuffled<T>*>(lanes[own->from])->value;
    }
  });
  return mine.result;
}

template <class T>
T __shfl_sync(unsigned, T value, int from) {
  return shuffle("__shfl_sync", value, from);
}

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return shuffle("__shfl_xor_sync", value, gpu::thread_index.x % gpu::LANES ^ mask);
}

template <class T>
T __shfl_up_sync(unsigned, T value, int by) {
  int lane = gpu::thread_index.x % gpu::LANES;
  return shuffle("__shfl_up_sync", value, lane < by ? lane : lane - by);
}

// Threads only take turns where they meet.
template <class T>
T atomicAdd(T* at, T value) {
  T before = *at;
  *at += value;
  return before;
}

inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  uint64_t bytes = static_cast<uint64_t>(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= static_cast<unsigned>(bytes >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
  return result;
}

// Two numbers of 16 bits times the two lower, or upper, bytes of another, and a third number.
inline unsigned __dp2a_lo(unsigned numbers, unsigned bytes, unsigned sum) {
  return sum + (numbers & 0xFFFF) * (bytes & 255) + (numbers >> 16) * (bytes >> 8 & 255);
}
inline unsigned __dp2a_hi(unsigned numbers, unsigned bytes, unsigned sum) {
  return __dp2a_lo(numbers, bytes >> 16, sum);
}

inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) >> (shift & 31));
}

inline float __saturatef(float x) { return x > 0.0f ? std::min(x, 1.0f) : 0.0f; }
inline int lane_number() { return gpu::thread_index.x % gpu::LANES; }
inline float reciprocal(float x) { return 1.0f / x; }

inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline int __float_as_int(float value) {
  int bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

inline float power_of_two(float exponent) { return std::exp2(exponent); }

inline void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  gpu::Product mine{d, a, {b0, b1}};
  gpu::meet_warp("mma", &mine, gpu::multiply_together);
}

template <int OFFSET>
void load_transposed(uint32_t (&b)[4], const uint4* row) {
  gpu::Matrices mine{b, row + OFFSET};
  gpu::meet_warp("ldmatrix.trans", &mine, [](auto& lanes) { gpu::load_together(lanes); });
}

template <int OFFSET>
void copy_async(uint4* to, const void* from) {
  to += OFFSET;
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % 16)
    gpu::fail("not at a multiple of 16 bytes:", "cp.async");
  gpu::threads[gpu::thread_index.x].copies.push_back({to, from});
}

inline void wait_for_copies() {
  auto& copies = gpu::threads[gpu::thread_index.x].copies;
  for (auto [to, from] : copies) std::memcpy(to, from, 16);
  copies.clear();
}

inline uint32_t two_float16(float low, float high) {
  return gpu::to_float16(low) | static_cast<uint32_t>(gpu::to_float16(high)) << 16;
}

inline uint32_t two_bfloat16(float low, float high) {
  return gpu::to_bfloat16(low) | static_cast<uint32_t>(gpu::to_bfloat16(high)) << 16;
}
