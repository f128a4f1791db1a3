// Transposition of 32-bit matrices of any size through tiles in shared memory: without padding (bank
// conflicts), with it, and four elements at a time where rows allow it.

enum { TILE = 32, ROWS = 8 };

template <int padding> __device__ void transpose_tile(unsigned *out, const unsigned *in, int rows, int cols) {
    __shared__ unsigned tile[TILE][TILE + padding];
    int x = blockIdx.x * TILE + threadIdx.x, y = blockIdx.y * TILE + threadIdx.y;
    for (int j = 0; j < TILE; j += ROWS)
#if BUG == 1
        if (x < cols) tile[threadIdx.y + j][threadIdx.x] = in[(size_t)(y + j) * cols + x]; // bug 1: out of bounds
#else
        if (x < cols && y + j < rows)
            tile[threadIdx.y + j][threadIdx.x] = in[(size_t)(y + j) * cols + x]; // bug 2: shared race
#endif
#if BUG != 2
    __syncthreads();
#endif
    x = blockIdx.y * TILE + threadIdx.x, y = blockIdx.x * TILE + threadIdx.y;
    for (int j = 0; j < TILE; j += ROWS)
#if BUG == 3
        if (x < rows + 1 && y + j < cols) // one column of the tile too many
#else
        if (x < rows && y + j < cols)
#endif
            out[(size_t)(y + j) * rows + x] = tile[threadIdx.x][threadIdx.y + j]; // bug 2: shared race // bug 3: uninitialised
}

extern "C" __global__ void transpose(unsigned *out, const unsigned *in, int rows, int cols) {
    transpose_tile<0>(out, in, rows, cols);
}

extern "C" __global__ void transpose_padded(unsigned *out, const unsigned *in, int rows, int cols) {
    transpose_tile<1>(out, in, rows, cols);
}

// A thread takes four elements of a row of 16-bit values and gives four of a column.
extern "C" __global__ void transpose_vectors(ushort4 *out, const ushort4 *in, int rows, int cols) {
    __shared__ unsigned short tile[TILE][TILE + 2];
    int x = blockIdx.x * TILE / 4 + threadIdx.x, y = blockIdx.y * TILE + threadIdx.y;
    if (4 * x < cols && y < rows) {
#if BUG == 4
        ushort4 v = *(const ushort4 *)((const char *)(in + (size_t)y * cols / 4 + x) + 2); // bug 4: misaligned
#else
        ushort4 v = in[(size_t)y * cols / 4 + x];
#endif
        unsigned short *at = &tile[threadIdx.y][4 * threadIdx.x];
        at[0] = v.x, at[1] = v.y, at[2] = v.z, at[3] = v.w;
    }
    __syncthreads();
    x = blockIdx.y * TILE / 4 + threadIdx.x, y = blockIdx.x * TILE + threadIdx.y;
    if (4 * x < rows && y < cols) {
        int at = 4 * threadIdx.x;
        out[(size_t)y * rows / 4 + x] = {tile[at][threadIdx.y], tile[at + 1][threadIdx.y], tile[at + 2][threadIdx.y],
                                         tile[at + 3][threadIdx.y]};
    }
}
