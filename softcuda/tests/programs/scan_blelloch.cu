// Exclusive scan of each block's part in shared memory, up-sweep and down-sweep; block totals are
// scanned by a second launch and added by a third. The block's part has two elements per thread.

extern "C" __global__ void scan_blocks(int *out, int *totals, const int *x, int n) {
    extern __shared__ int tree[];
    int t = threadIdx.x, size = 2 * blockDim.x, first = blockIdx.x * size;
    tree[2 * t] = first + 2 * t < n ? x[first + 2 * t] : 0; // bug 3: shared race
#if BUG == 1
    if (first + 2 * t + 1 < n) tree[2 * t + 1] = x[first + 2 * t + 1];
#else
    tree[2 * t + 1] = first + 2 * t + 1 < n ? x[first + 2 * t + 1] : 0; // bug 4: out of bounds // bug 3: shared race
#endif
    int offset = 1;
    for (int d = size / 2; d > 0; d /= 2) {
#if BUG == 2
        if (t >= d) break;
        __syncthreads(); // bug 2: barrier divergence
#elif BUG != 3
        __syncthreads();
#endif
        if (t < d)
            tree[offset * (2 * t + 2) - 1] += tree[offset * (2 * t + 1) - 1]; // bug 3: shared race // bug 4: out of bounds // bug 5: shared race
        offset *= 2;
    }
#if BUG == 5
    if (t == 0) totals[blockIdx.x] = tree[size - 1]; // bug 5: shared race
    if (t == blockDim.x - 1) tree[size - 1] = 0; // bug 5: shared race
#else
    if (t == 0) {
        totals[blockIdx.x] = tree[size - 1]; // bug 1: uninitialised
        tree[size - 1] = 0;
    }
#endif
    for (int d = 1; d < size; d *= 2) {
        offset /= 2;
        __syncthreads(); // bug 2: barrier divergence
        if (t < d) {
            int left = offset * (2 * t + 1) - 1, right = offset * (2 * t + 2) - 1, v = tree[left];
            tree[left] = tree[right];
            tree[right] += v;
        }
    }
    __syncthreads();
    for (int i = t; i < size; i += blockDim.x)
        if (first + i < n) out[first + i] = tree[i];
}

extern "C" __global__ void add_totals(int *out, const int *totals, int n) {
    for (int k = 0; k < 2; k++) {
        int i = (2 * blockIdx.x + k) * blockDim.x + threadIdx.x;
        if (i < n) out[i] += totals[blockIdx.x];
    }
}
