// Rows shared out to the blocks of a cluster: each reduces its part, reads the others' results
// through distributed shared memory; and a histogram whose bins are dealt out to the blocks.

__device__ __forceinline__ unsigned rank() {
    unsigned r;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
}
__device__ __forceinline__ unsigned blocks() {
    unsigned n;
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(n));
    return n;
}
__device__ __forceinline__ void sync_cluster() {
    asm volatile("barrier.cluster.arrive.aligned;\n\tbarrier.cluster.wait.aligned;" ::: "memory");
}
// The address of a variable in another block of the cluster.
__device__ __forceinline__ unsigned map(const void *p, unsigned block) {
    unsigned at;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"((unsigned)__cvta_generic_to_shared(p)), "r"(block));
    return at;
}

extern "C" __global__ void row_sums(float *out, const float *in, int cols) {
    __shared__ float sums[32], total;
    int t = threadIdx.x, row = blockIdx.x / blocks(), threads = blocks() * blockDim.x;
#if BUG == 1
    if (threadIdx.x == 0) total = 0;
    sync_cluster(); // all have begun, but not all have written
#endif
    float sum = 0;
    for (int i = rank() * blockDim.x + t; i < cols; i += threads) sum += in[(size_t)row * cols + i];
    for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(0xffffffff, sum, by);
    if (t % 32 == 0) sums[t / 32] = sum;
    __syncthreads();
    if (t == 0) {
        sum = 0;
        for (int w = 0; w < blockDim.x / 32; w++) sum += sums[w];
        total = sum; // bug 1: distributed race // bug 2: distributed race
    }
#if BUG == 1
    __syncthreads();
#else
    sync_cluster();
#endif
#if BUG == 5
    if (rank() != 0) return;
#endif
    if (t == 0) {
        float all = 0;
        for (unsigned b = 0; b < blocks(); b++) {
            float other;
            asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(other) : "r"(map(&total, b)) : "memory"); // bug 1: distributed race // bug 2: distributed race // bug 3: peer not running // bug 5: peer not running // bug 6: peer not running
            all += other;
        }
#if BUG == 2
        total = 0; // bug 2: distributed race
#endif
        if (rank() == 0) out[row] = all;
    }
#if BUG == 6
    asm volatile("barrier.cluster.arrive.aligned;" ::: "memory"); // and never waits
#elif BUG != 3
    sync_cluster();
#endif
}

// Bins are dealt out in turn; blocks add to each other's by atomics.
extern "C" __global__ void histogram(unsigned *out, const unsigned char *in, int n) {
    __shared__ unsigned bins[256];
    for (int i = threadIdx.x; i < 256; i += blockDim.x) bins[i] = 0; // bug 7: distributed race
#if BUG == 7 // the own bins are ready, those of others may not even be there
    __syncthreads();
#else
    sync_cluster();
#endif
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        unsigned bin = in[i], at = map(&bins[bin / blocks()], bin % blocks());
        asm volatile("red.relaxed.cluster.shared::cluster.add.u32 [%0], 1;" ::"r"(at) : "memory"); // bug 4: distributed race // bug 7: peer not running // bug 7: distributed race
    }
#if BUG == 4
    __syncthreads();
#else
    sync_cluster();
#endif
    for (int i = threadIdx.x; i * blocks() + rank() < 256; i += blockDim.x)
        atomicAdd(&out[i * blocks() + rank()], bins[i]); // bug 4: distributed race
#if BUG == 4
    sync_cluster();
#endif
}
