// y = A x for a sparse matrix in CSR: a warp for each row; and a thread for each row of the part of
// the rows that are short.

extern "C" __global__ void spmv_warp(float *y, const int *__restrict__ starts, const int *__restrict__ cols,
                                     const float *__restrict__ values, const float *__restrict__ x, int rows) {
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / warpSize, lane = threadIdx.x % warpSize;
    if (row >= rows) return;
    float sum = 0;
#if BUG == 1
    for (int i = starts[row] + lane; i <= starts[row + 1]; i += warpSize)
#else
    for (int i = starts[row] + lane; i < starts[row + 1]; i += warpSize)
#endif
        sum += values[i] * x[cols[i]]; // bug 1: out of bounds // bug 2: out of bounds // bug 3: uninitialised
    for (int by = warpSize / 2; by > 0; by /= 2) sum += __shfl_down_sync(0xffffffff, sum, by);
    if (lane == 0) y[row] = sum;
}

extern "C" __global__ void spmv_short(float *y, const int *starts, const int *cols, const float *values, const float *x,
                                      int rows, int longest) {
    int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    int first = starts[row], last = starts[row + 1];
    if (last - first > longest) return;
    double sum = 0;
    for (int i = first; i < last; i++) sum = fma((double)values[i], (double)x[cols[i]], sum);
    y[row] = (float)sum;
}
