// Cholesky factors of small matrices in double precision, in place in shared memory, and the
// solution of systems with them; a block of (n, n, 1) threads for each matrix, grids in z.

extern "C" __global__ void cholesky(double *matrices, double *vectors, int n) {
    extern __shared__ double a[];
    __shared__ int bad;
    int row = threadIdx.y, col = threadIdx.x;
    double *matrix = matrices + (size_t)blockIdx.z * n * n, *vector = vectors + (size_t)blockIdx.z * n;
    a[row * n + col] = matrix[row * n + col];
    if (row == 0 && col == 0) bad = 0;
    __syncthreads();
    for (int k = 0; k < n; k++) {
        if (row == k && col == k) {
            if (a[k * n + k] <= 0) bad = 1;
            a[k * n + k] = sqrt(a[k * n + k]);
        }
        __syncthreads();
#if BUG == 1
        if (col < k) break;
#endif
        if (col == k && row > k) a[row * n + k] /= a[k * n + k]; // bug 2: shared race
#if BUG != 2
        __syncthreads(); // bug 1: barrier divergence
#endif
        // No barrier behind this: a thread changes its own element only, and the next column's
        // divisions wait for its root.
        if (col > k && row >= col) a[row * n + col] -= a[row * n + k] * a[col * n + k]; // bug 2: shared race
    }
    // Forwards, then backwards, by the first column's threads in turn.
    for (int step = 0; step < 2 * n; step++) {
        int k = step < n ? step : 2 * n - 1 - step;
        if (row == k && col == 0) {
            double sum = vector[k];
            for (int j = 0; j < n; j++)
                if (step < n ? j < k : j > k) sum -= (step < n ? a[k * n + j] : a[j * n + k]) * vector[j];
            vector[k] = sum / a[k * n + k];
        }
        __syncthreads(); // bug 1: barrier divergence
    }
    if (row >= col && !bad) matrix[row * n + col] = a[row * n + col];
}
