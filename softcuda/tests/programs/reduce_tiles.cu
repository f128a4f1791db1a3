// Sum, minimum and maximum of an array: tiles of a warp as classes, in the way of cooperative
// groups; warps meet in shared memory; blocks add to the result atomically.

template <int size> struct tile {
    unsigned mask, rank;

    __device__ tile() {
        unsigned lane = threadIdx.x % 32;
        rank = lane % size;
#if BUG == 5
        mask = size == 32 ? 0xffffffffu : ((1u << (size % 32)) - 1) << (lane % size * size % 32);
#else
        mask = size == 32 ? 0xffffffffu : ((1u << (size % 32)) - 1) << (lane / size * size);
#endif
    }
    __device__ float shfl_down(float v, int by) const { return __shfl_down_sync(mask, v, by, size); }
    __device__ int shfl_xor(int v, int by) const { return __shfl_xor_sync(mask, v, by, size); } // bug 5: bad member mask
    __device__ void sync() const { __syncwarp(mask); }
};

struct sum_of {
    __device__ static float apply(float a, float b) { return a + b; }
};

template <class op, int size> __device__ float reduce(const tile<size> &t, float v) {
#pragma unroll
    for (int by = size / 2; by > 0; by /= 2) v = op::apply(v, t.shfl_down(v, by));
    return v;
}

extern "C" __global__ void block_sums(float *sums, const float *x, int n) {
    __shared__ float partial[32];
    tile<32> warp;
#if BUG == 1 // and all is zero before, so that only the missing barrier is wrong
    if (threadIdx.x < 32) partial[threadIdx.x] = 0;
    __syncthreads();
#endif
    int stride = gridDim.x * blockDim.x, first = blockIdx.x * blockDim.x + threadIdx.x;
    float v = 0;
    for (int i = first; i < n; i += stride) v += x[i];
    v = reduce<sum_of>(warp, v);
    if (warp.rank == 0) partial[threadIdx.x / 32] = v; // bug 1: shared race
#if BUG == 2
    if (threadIdx.x < 32)
        __syncthreads(); // bug 2: barrier divergence
#elif BUG != 1
    __syncthreads();
#endif
    if (threadIdx.x < 32) {
        int warps = (blockDim.x + 31) / 32;
        // All warps of the largest block have a place, but not all blocks have so many warps.
#if BUG == 3
        v = partial[threadIdx.x];
#elif BUG == 4
        v = threadIdx.x <= warps ? partial[threadIdx.x] : 0.f;
#else
        v = threadIdx.x < warps ? partial[threadIdx.x] : 0.f; // bug 1: shared race
#endif
        v = reduce<sum_of>(warp, v);
        if (warp.rank == 0) sums[blockIdx.x] = v; // bug 3: uninitialised // bug 4: uninitialised
    }
}

// Minimum and maximum in tiles of 8 that need not go in step.
extern "C" __global__ void range(int *least, int *most, const int *x, int n) {
    tile<8> t;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int low = i < n ? x[i] : 0x7fffffff, high = i < n ? x[i] : -0x7fffffff - 1;
    for (int by = 1; by < 8; by *= 2) {
        low = min(low, t.shfl_xor(low, by));
        high = max(high, t.shfl_xor(high, by));
    }
    t.sync();
    if (t.rank == 0 && i < n) {
        atomicMin(least, low);
        atomicMax(most, high);
    }
}
