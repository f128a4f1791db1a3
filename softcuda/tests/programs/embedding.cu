// Rows gathered from a table, and gradients added to its rows atomically; ids below 0 are padding.
// Rows have a multiple of 4 columns.

extern "C" __global__ void gather(float4 *__restrict__ out, const float4 *__restrict__ table, const int *__restrict__ ids,
                                  int cols4) {
    int id = __ldg(ids + blockIdx.x);
    for (int i = threadIdx.x; i < cols4; i += blockDim.x) {
        float4 zero = {0, 0, 0, 0};
        out[(size_t)blockIdx.x * cols4 + i] =
            id < 0 ? zero : __ldg(table + (size_t)id * cols4 + i); // bug 1: use after free // bug 2: out of bounds
    }
}

extern "C" __global__ void scatter_add(float *table, const float *grad, const int *ids, int cols) {
    int id = ids[blockIdx.x];
    if (id < 0) return;
    for (int i = threadIdx.x; i < cols; i += blockDim.x)
        atomicAdd(table + (size_t)id * cols + i, grad[(size_t)blockIdx.x * cols + i]); // bug 3: use after free
}

// Looks rows up that this very launch updates: the block of the first id of each pair scales the
// row, then both copy it.
extern "C" __global__ void renormalise(float *out, float *table, const int *ids, int cols, float factor) {
    float *row = table + (size_t)ids[blockIdx.x] * cols;
    for (int i = threadIdx.x; i < cols; i += blockDim.x) row[i] *= factor;
    __syncthreads();
    for (int i = threadIdx.x; i < cols; i += blockDim.x)
#if BUG == 4
        out[blockIdx.x * cols + i] = __ldg(row + (cols - 1 - i)); // bug 4: read-only load
#else
        out[blockIdx.x * cols + i] = row[cols - 1 - i];
#endif
}
