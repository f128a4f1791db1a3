// Bytes: all places of a pattern in a text, distances by dp4a of vectors of bytes, upper case four
// letters at a time.

extern "C" __global__ void find(int *places, int *count, const char *text, int n, const char *pattern, int m) {
    extern __shared__ char window[];
    int first = blockIdx.x * blockDim.x, i = first + threadIdx.x;
    for (int k = threadIdx.x; k < blockDim.x + m - 1; k += blockDim.x)
#if BUG == 1
        window[k] = text[first + k]; // bug 1: out of bounds
#else
        window[k] = first + k < n ? text[first + k] : 0;
#endif
    __syncthreads();
    if (i + m > n) return;
    for (int k = 0; k < m; k++)
        if (window[threadIdx.x + k] != pattern[k]) return;
    places[atomicAdd(count, 1)] = i;
}

__device__ int dot4(int a, int b, int c) {
    int d;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

extern "C" __global__ void dots(int *out, const int *a, const int *b, int words, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int sum = 0;
    unsigned most = 0;
    for (int k = 0; k < words; k++) {
        sum = dot4(a[i * words + k], b[k], sum);
        most = __vmaxu4(most, __vabsdiffu4(a[i * words + k], b[k]));
    }
    out[2 * i] = sum, out[2 * i + 1] = most;
}

extern "C" __global__ void upper(unsigned *text, int words) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= words) return;
    unsigned w = text[i], letters = __vcmpgeu4(w, 0x61616161u) & __vcmpleu4(w, 0x7a7a7a7au);
    text[i] = w ^ (letters & 0x20202020u);
}
