// Filters that append to a list: lanes of a warp that append elect a leader, which makes room for
// all of them with one atomic.

__device__ int rank_among(unsigned peers) {
    unsigned below;
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(below));
    return __popc(peers & below);
}

__device__ int append(int *count) {
    unsigned active = __activemask();
    int leader = __ffs(active) - 1, first = 0;
    if (threadIdx.x % 32 == leader) first = atomicAdd(count, __popc(active));
#if BUG == 1
    active = (1u << __popc(active) % 32) - 1; // as if the lanes were the first ones
#endif
    first = __shfl_sync(active, first, leader); // bug 1: bad member mask
    return first + rank_among(active);
}

extern "C" __global__ void filter(int *list, int *count, const int *x, int n, int limit) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && x[i] > limit) list[append(count)] = x[i]; // bug 2: out of bounds
}

// Buckets: lanes with the same key go together.
extern "C" __global__ void count_keys(int *counts, int *leaders, const int *keys, int n) {
    int led = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        unsigned active = __activemask();
#if BUG == 3
        unsigned peers = __match_any_sync(active | 0x80000000u, keys[i]); // bug 3: bad member mask
#else
        unsigned peers = __match_any_sync(active, keys[i]);
#endif
        if (rank_among(peers) != 0) continue;
        atomicAdd(&counts[keys[i]], __popc(peers));
        led++;
    }
    for (int by = 16; by > 0; by /= 2) led += __shfl_xor_sync(0xffffffff, led, by); // bug 3: bad member mask
    if (threadIdx.x % 32 == 0) atomicAdd(leaders, led);
}

// Sums of keys that all lanes of a warp share, and of others one by one.
extern "C" __global__ void sum_by_key(int *sums, const int *keys, const int *values, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned members = __ballot_sync(0xffffffff, i < n);
    if (i >= n) return;
    int same;
    __match_all_sync(members, keys[i], &same);
    if (!same) {
        atomicAdd(&sums[keys[i]], values[i]);
        return;
    }
    int sum = values[i];
    // The members are lanes 0 and up.
    for (int by = 16; by > 0; by /= 2) {
        int other = __shfl_down_sync(members, sum, by);
        int from = threadIdx.x % 32 + by;
        if (from < 32 && members >> from & 1) sum += other;
    }
    if (threadIdx.x % 32 == 0) atomicAdd(&sums[keys[i]], sum);
}
