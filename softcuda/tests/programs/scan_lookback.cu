// Inclusive scan in one pass with decoupled look-back: each block publishes its sum, then looks
// back over the blocks before it until one has published its prefix. Blocks take their numbers from
// a counter, so that those before are running or done.

enum { EMPTY = 0, SUM = 1, PREFIX = 2 };

// The state in the upper half, so that both are written at once.
__device__ void publish(unsigned long long *at, int state, int value) {
    unsigned long long word = (unsigned long long)state << 32 | (unsigned)value;
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(at), "l"(word) : "memory");
}

__device__ int look(const unsigned long long *at, int &value) {
    unsigned long long word;
    do {
        asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(at) : "memory"); // bug 1: deadlock
    } while (word >> 32 == EMPTY); // bug 1: deadlock
    value = (int)word;
    return word >> 32;
}

extern "C" __global__ void scan(int *out, unsigned long long *status, unsigned *counter, const int *x, int n) {
    __shared__ int sums[32], number, before;
    int t = threadIdx.x, lane = t % 32, warps = blockDim.x / 32;
    if (t == 0) number = atomicAdd(counter, 1); // bug 2: shared race
#if BUG != 2
    __syncthreads();
#endif
    int block = number, i = block * blockDim.x + t, v = i < n ? x[i] : 0; // bug 2: shared race // bug 2: uninitialised
    for (int by = 1; by < 32; by *= 2) {
        int other = __shfl_up_sync(0xffffffff, v, by);
        if (lane >= by) v += other;
    }
    if (lane == 31) sums[t / 32] = v;
    __syncthreads();
    int total = 0, mine = 0;
    for (int w = 0; w < warps; w++) {
        if (w == t / 32) mine = total;
        total += sums[w];
    }
    if (t == 0) {
        int prefix = 0;
#if BUG == 1
        if (block % 2 == 0) publish(&status[block], block == 0 ? PREFIX : SUM, total);
#else
        publish(&status[block], block == 0 ? PREFIX : SUM, total);
#endif
        for (int b = block - 1; b >= 0; b--) {
            int value;
            int state = look(&status[b], value);
            prefix += value;
            if (state == PREFIX) break;
        }
#if BUG == 1
        if (block % 2 == 0)
#endif
            publish(&status[block], PREFIX, prefix + total);
        before = prefix;
    }
#if BUG == 3
    if (i >= n) return;
    asm volatile("barrier.sync 0, %0;" ::"r"((blockDim.x + 31) & ~31) : "memory"); // bug 3: barrier divergence
#else
    __syncthreads(); // bug 1: deadlock
#endif
    if (i < n) out[i] = before + mine + v;
}
