// Bitonic sort of keys with values, a block for each list; lists have a power of two of elements,
// a thread for each pair.

extern "C" __global__ void sort_lists(unsigned long long *keys, int *values, int n) {
    extern __shared__ unsigned long long shared_keys[];
    int *shared_values = (int *)(shared_keys + n);
    keys += (size_t)blockIdx.x * n;
    values += (size_t)blockIdx.x * n;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        shared_keys[i] = keys[i]; // bug 1: shared race
        shared_values[i] = values[i];
    }
    for (int size = 2; size <= n; size *= 2) {
        for (int stride = size / 2; stride > 0; stride /= 2) {
#if BUG == 1
            if (stride > 32) __syncthreads(); // as if a warp's threads went in step
#else
            __syncthreads();
#endif
            int low = 2 * threadIdx.x - (threadIdx.x & (stride - 1)), high = low + stride;
            bool up = (low & size) == 0;
            unsigned long long a = shared_keys[low], b = shared_keys[high]; // bug 1: shared race
            if ((a > b) == up) { // bug 1: uninitialised
                int v = shared_values[low];
                shared_keys[low] = b; // bug 1: shared race
                shared_keys[high] = a; // bug 1: shared race
                shared_values[low] = shared_values[high]; // bug 1: shared race
                shared_values[high] = v; // bug 1: shared race
#if BUG == 2
                __syncthreads(); // bug 2: barrier divergence
#endif
            }
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        keys[i] = shared_keys[i];
        values[i] = shared_values[i];
    }
}
