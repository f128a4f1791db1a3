// Steps of the heat equation in two dimensions: tiles with a halo of one in shared memory, corners
// left out since a five-point stencil does not touch them. Edges of the field stay as they are.

enum { BX = 16, BY = 8 };

extern "C" __global__ void heat(float *out, const float *in, int width, int height, float rate) {
    __shared__ float tile[BY + 2][BX + 2];
    int x = blockIdx.x * BX + threadIdx.x, y = blockIdx.y * BY + threadIdx.y;
    int tx = threadIdx.x + 1, ty = threadIdx.y + 1;
    bool inside = x < width && y < height;
    if (inside) {
        const float *centre = in + y * width + x;
        tile[ty][tx] = *centre; // bug 2: shared race
#if BUG == 1
        if (tx == 1) tile[ty][0] = centre[-1]; // bug 1: out of bounds
#else
        if (tx == 1 && x > 0) tile[ty][0] = centre[-1];
#endif
        if (tx == BX && x + 1 < width) tile[ty][BX + 1] = centre[1];
        if (ty == 1 && y > 0) tile[0][tx] = centre[-width];
#if BUG != 3
        if (ty == BY && y + 1 < height) tile[BY + 1][tx] = centre[width];
#endif
    }
#if BUG != 2
    __syncthreads();
#endif
    if (!inside) return;
    float c = tile[ty][tx];
    if (x > 0 && x + 1 < width && y > 0 && y + 1 < height)
        c += rate * (tile[ty][tx - 1] + tile[ty][tx + 1] + tile[ty - 1][tx] + tile[ty + 1][tx] - 4 * c); // bug 2: shared race
    out[y * width + x] = c; // bug 3: uninitialised
}

// Several steps by one block without leaving shared memory; two buffers take turns.
extern "C" __global__ void heat_line(float *line, int n, int steps, float rate) {
    extern __shared__ float buffers[];
    float *from = buffers, *to = buffers + n;
    for (int i = threadIdx.x; i < n; i += blockDim.x) from[i] = line[i];
#if BUG == 4
    if (threadIdx.x == 0) to[0] = from[0];
#else
    if (threadIdx.x == 0) to[0] = line[0], to[n - 1] = line[n - 1];
#endif
    for (int step = 0; step < steps; step++) {
#if BUG == 5
        if (step % 2 == 0) __syncthreads();
#else
        __syncthreads();
#endif
        for (int i = threadIdx.x + 1; i < n - 1; i += blockDim.x)
            to[i] = from[i] + rate * (from[i - 1] - 2 * from[i] + from[i + 1]); // bug 5: shared race
        float *swap = from;
        from = to, to = swap;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) line[i] = from[i]; // bug 4: uninitialised
}
