// Row reductions in the habits of others: warp shuffles and block reductions through shared memory,
// an online softmax, cross-entropy, 128-bit loads staged in dynamic shared memory, cp.async double
// buffering, warp-aggregated atomics, a block scan, functions that are not inlined.
//
// Compiled by NVRTC with `-lineinfo` for the test ptx_compiled.rs:
//   rows.12.1-sm_75.ptx and rows.12.1-sm_80.ptx by 12.1, rows.13.5-sm_90.ptx and
//   rows.13.5-sm_100.ptx by 13.5. Debug sections are cut out.

typedef unsigned short half_bits;
typedef unsigned char u8;
typedef unsigned int u32;

__device__ __forceinline__ float from_half(half_bits h) {
    float f;
    asm("{ cvt.f32.f16 %0, %1; }" : "=f"(f) : "h"(h));
    return f;
}

__device__ __forceinline__ half_bits to_half(float f) {
    half_bits h;
    asm("{ cvt.rn.f16.f32 %0, %1; }" : "=h"(h) : "f"(f));
    return h;
}

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }

template <bool maximum> __device__ __forceinline__ float combine(float a, float b) {
    return maximum ? fmaxf(a, b) : a + b;
}

template <bool maximum> __device__ float block_reduce(float value) {
    __shared__ float partial[32];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = (blockDim.x + 31) / 32;
    for (int offset = 16; offset > 0; offset /= 2)
        value = combine<maximum>(value, __shfl_xor_sync(0xffffffff, value, offset));
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    value = lane < warps ? partial[lane] : (maximum ? -infinity() : 0.0f);
    for (int offset = 16; offset > 0; offset /= 2)
        value = combine<maximum>(value, __shfl_xor_sync(0xffffffff, value, offset));
    __syncthreads();
    return value;
}

// out[row] = log(sum exp(x)) - x[target]; grad = softmax - onehot, in f32.
extern "C" __global__ void cross_entropy(float *__restrict__ loss, float *__restrict__ grad,
                                         const float *__restrict__ x,
                                         const int *__restrict__ targets, int cols) {
    const float *row = x + (size_t)blockIdx.x * cols;
    float most = -infinity();
    for (int i = threadIdx.x; i < cols; i += blockDim.x) most = fmaxf(most, row[i]);
    most = block_reduce<true>(most);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < cols; i += blockDim.x) sum += expf(row[i] - most);
    sum = block_reduce<false>(sum);
    int target = targets[blockIdx.x];
    if (threadIdx.x == 0) loss[blockIdx.x] = logf(sum) + most - row[target];
    for (int i = threadIdx.x; i < cols; i += blockDim.x)
        grad[(size_t)blockIdx.x * cols + i] = __expf(row[i] - most) / sum - (i == target ? 1.f : 0.f);
}

// Online softmax of one row per warp, f16 in and out, 8 values per load; the tail by element.
extern "C" __global__ void softmax_warp(half_bits *out, const half_bits *in, int rows, int cols) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    const half_bits *x = in + (size_t)row * cols;
    half_bits *y = out + (size_t)row * cols;
    int body = ((size_t)x % 16 == 0) ? cols / 8 * 8 : 0;
    float most = -infinity(), sum = 0.0f;
    auto add = [&](float value) {
        float next = fmaxf(most, value);
        sum = sum * __expf(most - next) + __expf(value - next);
        most = next;
    };
    for (int i = lane * 8; i < body; i += 256) {
        uint4 packed = __ldg((const uint4 *)(x + i));
        u32 words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            add(from_half(words[k] & 0xffff));
            add(from_half(words[k] >> 16));
        }
    }
    for (int i = body + lane; i < cols; i += 32) add(from_half(x[i]));
    for (int offset = 16; offset > 0; offset /= 2) {
        float other_most = __shfl_down_sync(0xffffffff, most, offset);
        float other_sum = __shfl_down_sync(0xffffffff, sum, offset);
        float next = fmaxf(most, other_most);
        if (next > -infinity()) {
            sum = sum * __expf(most - next) + other_sum * __expf(other_most - next);
            most = next;
        }
    }
    most = __shfl_sync(0xffffffff, most, 0);
    sum = __shfl_sync(0xffffffff, sum, 0);
    for (int i = lane; i < cols; i += 32) y[i] = to_half(__expf(from_half(x[i]) - most) / sum);
}

struct Options {
    const u8 *mask;
    float scale[3];
    short shift;
    double offset;
};

__device__ __noinline__ float weigh(const Options &options, float x, int i) {
    float scale = options.scale[i % 3];
    if (options.mask && options.mask[i] == 0) return 0.0f;
    return log1pf(x * x) * scale + ldexpf(tanhf(x), options.shift) + (float)options.offset;
}

// A struct by value, a call, local memory, doubles.
extern "C" __global__ void weighted(float *out, const float *in, int n, Options options) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float window[4];
    for (int k = 0; k < 4; k++) window[k] = in[min(i + k, n - 1)];
    out[i] = weigh(options, window[i & 3], i) + sinf(in[i]);
}

// Staged through shared memory in tiles, two in flight on sm_80 and up.
extern "C" __global__ void staged_sum(float *out, const float4 *in, int tiles) {
    extern __shared__ float4 stage[];
    const float4 *row = in + (size_t)blockIdx.x * tiles * blockDim.x;
    float sum = 0.0f;
#if __CUDA_ARCH__ >= 800
    auto fetch = [&](int tile) {
        u32 to = (u32)__cvta_generic_to_shared(&stage[(tile & 1) * blockDim.x + threadIdx.x]);
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to),
                     "l"(row + tile * blockDim.x + threadIdx.x) : "memory");
    };
    fetch(0);
    asm volatile("cp.async.commit_group;" ::: "memory");
    for (int tile = 0; tile < tiles; tile++) {
        if (tile + 1 < tiles) fetch(tile + 1);
        asm volatile("cp.async.commit_group;" ::: "memory");
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        __syncthreads();
        float4 v = stage[(tile & 1) * blockDim.x + (threadIdx.x ^ 1)];
        sum += (v.x + v.y) + (v.z + v.w);
        __syncthreads();
    }
#else
    for (int tile = 0; tile < tiles; tile++) {
        stage[threadIdx.x] = row[tile * blockDim.x + threadIdx.x];
        __syncthreads();
        float4 v = stage[threadIdx.x ^ 1];
        sum += (v.x + v.y) + (v.z + v.w);
        __syncthreads();
    }
#endif
    sum = block_reduce<false>(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// Histogram with shared atomics, a scan over it, and warp-aggregated compaction.
extern "C" __global__ void compact(u32 *out, u32 *count, u32 *scan, const u8 *in, int n) {
    __shared__ u32 bins[256];
    bins[threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) atomicAdd(&bins[in[i]], 1u);
    __syncthreads();
    u32 sum = bins[threadIdx.x];
    for (int offset = 1; offset < 256; offset *= 2) {
        u32 other = threadIdx.x >= offset ? bins[threadIdx.x - offset] : 0;
        __syncthreads();
        bins[threadIdx.x] = sum = sum + other;
        __syncthreads();
    }
    scan[threadIdx.x] = sum;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        if (in[i] >= 100) {
            u32 active = __activemask(), leader = __ffs(active) - 1;
            u32 rank = __popc(active & ((1u << (threadIdx.x % 32)) - 1)), base;
            if (threadIdx.x % 32 == leader) base = atomicAdd(count, __popc(active));
            base = __shfl_sync(active, base, leader);
            out[base + rank] = i;
        }
    }
}
