// One pass of a radix sort over 4 bits: counts of digits by block, a scan of the counts by one
// block, and a stable scatter by ballots. The host makes eight of them for 32-bit keys.

enum { BITS = 4, DIGITS = 16 };

extern "C" __global__ void digit_counts(unsigned *counts, const unsigned *keys, int n, int shift) {
    __shared__ unsigned local[DIGITS];
#if BUG != 1
    if (threadIdx.x < DIGITS) local[threadIdx.x] = 0; // bug 2: shared race
#endif
#if BUG != 2
    __syncthreads();
#endif
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) atomicAdd(&local[keys[i] >> shift & (DIGITS - 1)], 1u); // bug 2: shared race // bug 1: uninitialised
    __syncthreads();
    // By digit, then by block, as the scan wants them.
    if (threadIdx.x < DIGITS) counts[threadIdx.x * gridDim.x + blockIdx.x] = local[threadIdx.x]; // bug 1: uninitialised
}

extern "C" __global__ void scan_counts(unsigned *counts, int n) {
    __shared__ unsigned warp_sums[32];
    __shared__ unsigned carry;
    if (threadIdx.x == 0) carry = 0;
    for (int first = 0; first < n; first += blockDim.x) {
        int i = first + threadIdx.x;
        unsigned own = i < n ? counts[i] : 0, v = own;
        for (int by = 1; by < 32; by *= 2) {
            unsigned other = __shfl_up_sync(~0u, v, by);
            v += threadIdx.x % 32 >= by ? other : 0;
        }
        if (threadIdx.x % 32 == 31) warp_sums[threadIdx.x / 32] = v;
        __syncthreads();
        unsigned before = carry;
        for (int w = 0; w < threadIdx.x / 32; w++) before += warp_sums[w];
        if (i < n) counts[i] = before + v - own;
        __syncthreads();
        if (threadIdx.x == blockDim.x - 1) carry = before + v;
        __syncthreads();
    }
}

extern "C" __global__ void scatter(unsigned *to, const unsigned *from, const unsigned *offsets, int n, int shift) {
    __shared__ unsigned in_warp[32][DIGITS];
    int i = blockIdx.x * blockDim.x + threadIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    unsigned key = i < n ? from[i] : 0, digit = i < n ? key >> shift & (DIGITS - 1) : DIGITS, below = 0;
    for (unsigned d = 0; d < DIGITS; d++) {
        unsigned with = __ballot_sync(~0u, digit == d);
        if (digit == d) below = __popc(with & ((1u << lane) - 1));
        if (lane == 0) in_warp[warp][d] = __popc(with); // bug 4: shared race
    }
#if BUG != 4
    __syncthreads();
#endif
    if (i >= n) return;
    unsigned at = offsets[digit * gridDim.x + blockIdx.x] + below;
    for (int w = 0; w < warp; w++) at += in_warp[w][digit]; // bug 4: shared race
#if BUG == 3
    to[at + 1] = key; // bug 3: out of bounds
#else
    to[at] = key; // bug 4: uninitialised
#endif
}
