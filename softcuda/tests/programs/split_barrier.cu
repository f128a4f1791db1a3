// A line relaxed in registers and shared memory, in the way of cuda::barrier: threads arrive when
// their value is there, do what needs no neighbour, and wait before they look at the neighbours'.

typedef unsigned long long u64;

__device__ __forceinline__ unsigned at(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

__device__ __forceinline__ u64 arrive(u64 *barrier) {
    u64 token;
    asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(token) : "r"(at(barrier)) : "memory");
    return token;
}
__device__ __forceinline__ bool is_over(u64 *barrier, u64 token) {
    unsigned over;
    asm volatile("{ .reg .pred p; mbarrier.test_wait.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" // bug 5: deadlock // bug 6: deadlock
                 : "=r"(over) : "r"(at(barrier)), "l"(token) : "memory"); // bug 5: deadlock // bug 6: deadlock
    return over; // bug 5: deadlock
}

// A thread for each value; both ends stay.
extern "C" __global__ void relax(float *out, const float *in, int n, int steps) {
    __shared__ float line[2][256];
    __shared__ __align__(8) u64 barrier;
    int t = threadIdx.x;
    if (t == 0) {
        int threads = blockDim.x;
#if BUG == 6
        threads = (threads + 127) / 128 * 128;
#endif
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(at(&barrier)), "r"(threads) : "memory");
    }
    __syncthreads();
    if (t >= n) {
#if BUG != 5
        // The others go on without those that have nothing to do.
        u64 token;
        asm volatile("mbarrier.arrive_drop.shared.b64 %0, [%1];" : "=l"(token) : "r"(at(&barrier)) : "memory");
#endif
        return;
    }
    float own = in[blockIdx.x * n + t];
#if BUG == 3
    u64 before = 0;
#endif
    for (int step = 0; step < steps; step++) {
        float *values = line[step & 1];
#if BUG == 4
        u64 token = arrive(&barrier);
        values[t] = own; // bug 4: shared race
#else
        values[t] = own; // bug 1: missing mbarrier wait // bug 2: missing mbarrier wait // bug 3: missing mbarrier wait
        u64 token = arrive(&barrier);
#endif
        float half = 0.5f * own;
#if BUG == 2 // one waits for all, who do not wait for the one
        if (t == 0)
            while (!is_over(&barrier, token)) {}
#elif BUG == 3 // for the step before
        if (step > 0)
            while (!is_over(&barrier, before)) {}
        before = token;
#elif BUG != 1
        while (!is_over(&barrier, token)) {} // bug 5: deadlock // bug 6: deadlock
#endif
        if (t > 0 && t < n - 1)
            own = half + 0.25f * (values[t - 1] + values[t + 1]); // bug 1: missing mbarrier wait // bug 2: missing mbarrier wait // bug 3: missing mbarrier wait // bug 4: shared race
    }
    out[blockIdx.x * n + t] = own; // bug 1: uninitialised
}
