// Calls: functions that are not inlined, structures by value and by pointer, local arrays indexed at
// run time, recursion bounded by a template.

struct item {
    float weight;
    short kind;
    double value;
};

__device__ __noinline__ item scaled(item it, float by) {
    it.value *= by;
    it.kind += 1;
    return it;
}

__device__ __noinline__ void bump(item *it, int times) {
    for (int i = 0; i < times; i++) it->weight += 0.5f;
}

template <int depth> __device__ __noinline__ int ways(int n) { return n < 0 ? 0 : ways<depth - 1>(n - 1) + ways<depth - 1>(n - 2); }
template <> __device__ __noinline__ int ways<0>(int n) { return n == 0; }

// An insertion sort of eight values in local memory.
__device__ __noinline__ void sort8(int *v) {
    for (int i = 1; i < 8; i++) {
        int x = v[i], j = i;
        for (; j > 0 && v[j - 1] > x; j--) v[j] = v[j - 1];
#if BUG == 1
        v[j + (i == 7 && x < 0 ? 1 << 24 : 0)] = x; // bug 1: out of bounds
#else
        v[j] = x;
#endif
    }
}

extern "C" __global__ void items(double *out, const int *x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    item it = {0.25f * i, (short)(x[i] & 0xff), (double)x[i]};
#if BUG == 2
    item *unset = (item *)out; // whose bytes nothing wrote
    it = scaled(*unset, 1.5f);
#else
    it = scaled(it, 1.5f);
#endif
    bump(&it, i % 5);
    out[i] = it.value + it.weight + it.kind; // bug 2: uninitialised
}

extern "C" __global__ void local_arrays(int *out, const int *x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int v[8];
    for (int k = 0; k < 8; k++) v[k] = x[(i + k * k) % n] ^ k;
    sort8(v);
    out[i] = v[i & 7] * 1000 + ways<6>(i % 13);
}
