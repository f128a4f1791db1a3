// Storage types, conversions and the few instructions that need inline PTX.
// Header-free: `cuda_fp16.h` is not on NVRTC's default path, so half types are their bits.
#pragma once
#include "args.cuh"

struct f16 { u16 bits; };
struct bf16 { u16 bits; };

// A plain `-INFINITY` needs <math.h>; these are the bits.
template <class T> __device__ __forceinline__ T minus_infinity();
template <> __device__ __forceinline__ float minus_infinity<float>() { return __uint_as_float(0xff800000u); }
template <> __device__ __forceinline__ f16 minus_infinity<f16>() { return f16{0xfc00}; }
template <> __device__ __forceinline__ bf16 minus_infinity<bf16>() { return bf16{0xff80}; }
__device__ __forceinline__ float quiet_nan() { return __uint_as_float(0x7fffffffu); }

__device__ __forceinline__ float to_f32(float x) { return x; }
__device__ __forceinline__ float to_f32(f16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
__device__ __forceinline__ float to_f32(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

template <class T> __device__ __forceinline__ T from_f32(float x);
template <> __device__ __forceinline__ float from_f32<float>(float x) { return x; }
template <> __device__ __forceinline__ f16 from_f32<f16>(float x) {
    f16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));  // beyond the range: infinity, never saturated
    return y;
}
template <> __device__ __forceinline__ bf16 from_f32<bf16>(float x) {
    bf16 y;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
    // Turing has no bf16 conversion: round to nearest even on the bits; the carry of the largest
    // finite value runs into the exponent and gives infinity, as it should.
    u32 bits = __float_as_uint(x);
    y.bits = x != x ? (u16)0x7fff : (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#endif
    return y;
}

// Element `i` of a register pack of 32-bit words; `set` expects zeros where it writes.
template <class T> struct Lane;
template <> struct Lane<float> {
    static __device__ __forceinline__ float get(const u32* words, int i) { return __uint_as_float(words[i]); }
    static __device__ __forceinline__ void set(u32* words, int i, float x) { words[i] = __float_as_uint(x); }
};
template <class T> struct HalfLane {
    static __device__ __forceinline__ T get(const u32* words, int i) {
        T x;
        x.bits = (u16)(words[i / 2] >> (16 * (i % 2)));
        return x;
    }
    static __device__ __forceinline__ void set(u32* words, int i, T x) {
        words[i / 2] |= (u32)x.bits << (16 * (i % 2));
    }
};
template <> struct Lane<f16> : HalfLane<f16> {};
template <> struct Lane<bf16> : HalfLane<bf16> {};
template <> struct Lane<u8> {
    static __device__ __forceinline__ u8 get(const u32* words, int i) { return (u8)(words[i / 4] >> (8 * (i % 4))); }
    static __device__ __forceinline__ void set(u32* words, int i, u8 x) {
        words[i / 4] |= (u32)x << (8 * (i % 4));
    }
};

// 2^x in one MUFU instruction, relative error <= 2^-22.5 (PTX ISA). Results below 2^-126 are flushed
// to zero, which is what gives a masked score a weight of exactly nothing.
__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Clamps to [-bound, bound] and lets NaN through: fminf/fmaxf would swallow it.
__device__ __forceinline__ float clamp_keep_nan(float x, float bound) {
#if __CUDA_ARCH__ >= 800
    float y;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(bound));
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(y), "f"(-bound));
    return y;
#else
    x = x > bound ? bound : x;
    return x < -bound ? -bound : x;
#endif
}

// Running sum with its rounding errors kept apart (Knuth's TwoSum), for sums of any length.
struct CompensatedSum {
    float high = 0.0f, low = 0.0f;
    __device__ __forceinline__ void add(float x) {
        float sum = high + x;
        float part = sum - high;
        low += (high - (sum - part)) + (x - part);
        high = sum;
    }
    // An infinite sum has NaN for its error term; the sum itself is what counts then.
    __device__ __forceinline__ float value() const {
        float sum = high + low;
        return sum == sum ? sum : high;
    }
};
