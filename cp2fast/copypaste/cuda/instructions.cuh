// Threads, and operations that are one GPU instruction but have no C++ equivalent. The tests, which
// run on a CPU, have their own versions of the latter.
#pragma once

#define DEVICE __device__ __forceinline__

using uint8 = unsigned char;
using uint16 = unsigned short;
using uint32 = unsigned int;
using uint64 = unsigned long long;
using int64 = long long;

constexpr int WARP = 32;  // threads
constexpr int WARPS = 4;  // of a block
constexpr int THREADS = WARPS * WARP;
constexpr uint32 ONES = 0x3C003C00;  // two float16 of 1.0

#ifndef ON_CPU
// The thread's number in its warp. The empty asm keeps the compiler from computing everything that
// depends on it ahead of the loops, which would take too many registers. It also hides the number's
// range, without which divisions need corrections for negative numbers.
DEVICE int lane_number() {
  int lane = threadIdx.x % WARP;
  asm volatile("" : "+r"(lane));
  __builtin_assume(0 <= lane && lane < WARP);
  return lane;
}

DEVICE uint32 shared_address(const void* pointer) { return static_cast<uint32>(__cvta_generic_to_shared(pointer)); }

// d += a b for matrices of 16 x 16 and 16 x 8 float16 numbers, accumulated in float32.
DEVICE void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Load four matrices of 8 x 8 float16, transposed; each thread gives the address of a row of 16
// bytes. A constant offset, in such rows, needs no register.
template <int OFFSET>
DEVICE void load_transposed(uint32 (&b)[4], const uint4* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4 + %5];"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
               : "r"(shared_address(row)), "n"(16 * OFFSET)
               : "memory");
}

// Copy 16 bytes to shared memory, bypassing registers; a thread waits only for its own copies. A
// constant offset, in units of 16 bytes, needs no register.
template <int OFFSET>
DEVICE void copy_async(uint4* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0 + %2], [%1], 16;" ::"r"(shared_address(to)), "l"(from), "n"(16 * OFFSET)
               : "memory");
}
DEVICE void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Round two numbers to 16 bits; the first is in the lower half.
DEVICE uint32 two_float16(float low, float high) {
  uint32 both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
DEVICE uint32 two_bfloat16(float low, float high) {
  uint32 both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
DEVICE float reciprocal(float x) {
  asm("rcp.approx.ftz.f32 %0, %0;" : "+f"(x));
  return x;
}
DEVICE float power_of_two(float exponent) {
  asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(exponent));
  return exponent;
}
#endif

// Tells the compiler that the number, and everything derived from it, is uniform in a warp.
DEVICE int warp_number() { return __shfl_sync(0xFFFFFFFF, static_cast<int>(threadIdx.x) / WARP, 0); }
