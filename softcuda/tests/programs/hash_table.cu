// A hash table with open addressing: keys are claimed by 64-bit compare-and-swap, values are sums.
// Another kernel looks keys up.

typedef unsigned long long u64;

__device__ unsigned slot_of(u64 key, unsigned mask) {
    key ^= key >> 33, key *= 0xff51afd7ed558ccdull, key ^= key >> 29;
    return (unsigned)key & mask;
}

// Keys are not 0, which marks an empty slot.
extern "C" __global__ void insert(u64 *keys, u64 *sums, unsigned mask, const u64 *x, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        u64 key = x[i];
        unsigned slot = slot_of(key, mask);
        for (;;) {
#if BUG == 1
            u64 before = keys[slot]; // bug 1: global race
            if (before == 0) keys[slot] = key; // bug 1: global race
#else
            u64 before = atomicCAS(&keys[slot], 0ull, key); // bug 2: uninitialised
#endif
            if (before == 0 || before == key) break; // bug 2: uninitialised
            slot = (slot + 1) & mask;
        }
        atomicAdd(&sums[slot], (u64)i);
    }
}

extern "C" __global__ void look_up(u64 *out, const u64 *keys, const u64 *sums, unsigned mask, const u64 *x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned slot = slot_of(x[i], mask);
#if BUG == 3
    while (keys[slot] != x[i]) slot++; // bug 3: out of bounds
#else
    while (keys[slot] != x[i] && keys[slot] != 0) slot = (slot + 1) & mask;
#endif
    out[i] = keys[slot] == 0 ? ~0ull : sums[slot];
}
