// The threads that share one row, and their reductions. Every reduction has a fixed order and leaves
// the same bits in every thread, so that branches on its result are uniform over the row.
#pragma once
#include "numeric.cuh"

struct Sum {
    static __device__ __forceinline__ float apply(float a, float b) { return a + b; }
};
// NaN is dropped here on purpose: the sums that follow a maximum see every NaN again.
struct Max {
    static __device__ __forceinline__ float apply(float a, float b) { return fmaxf(a, b); }
};

template <class Op> __device__ __forceinline__ float2 reduce_warp(float2 v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) {
        v.x = Op::apply(v.x, __shfl_xor_sync(0xffffffffu, v.x, offset));
        v.y = Op::apply(v.y, __shfl_xor_sync(0xffffffffu, v.y, offset));
    }
    return v;
}

// How often one row reduces: the fast sums, and for a row that overflows its maxima and its exact sums.
// Each use has shared memory of its own, so that no barrier is needed between one use and the next.
enum ReductionUse { FAST_SUMS, MAXIMA, EXACT_SUMS, REDUCTION_USES };

struct Warp {
    int rank, size;
    __device__ __forceinline__ Warp() : rank(threadIdx.x % 32), size(32) {}
    template <class Op, ReductionUse Use> __device__ __forceinline__ float2 reduce(float2 v) const {
        // In place, lanes of the exact path store where other lanes have read, and shuffles order no memory.
        if constexpr (Use == EXACT_SUMS) __syncwarp();
        return reduce_warp<Op>(v);
    }
};

struct Block {
    int rank, size;
    float2 (*scratch)[32];  // [REDUCTION_USES][warps]
    __device__ __forceinline__ Block() : rank(threadIdx.x), size(blockDim.x) {
        __shared__ float2 storage[REDUCTION_USES][32];
        scratch = storage;
    }
    template <class Op, ReductionUse Use> __device__ __forceinline__ float2 reduce(float2 v) const {
        int lane = rank % 32, warp = rank / 32, warps = size / 32;
        v = reduce_warp<Op>(v);
        if (lane == 0) scratch[Use][warp] = v;
        // Every warp reads all warps' values below. It also orders the whole row's loads before any
        // store of its gradient, which in-place rows that are read twice rely on.
        __syncthreads();
        // 0 is neutral for both: sums begin at 0, and maxima are of exponents against that of the "1 +".
        v = lane < warps ? scratch[Use][lane] : make_float2(0.0f, 0.0f);
        return reduce_warp<Op>(v);
    }
};
