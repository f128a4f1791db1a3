// Convolution of an image of bytes with a filter in constant memory, edges clamped; another filter
// is computed on the device and read back as a table.

struct filter {
    float weights[25];
    int radius;
};

__constant__ filter taps = {{1 / 16.f, 2 / 16.f, 1 / 16.f, 2 / 16.f, 4 / 16.f, 2 / 16.f, 1 / 16.f, 2 / 16.f, 1 / 16.f}, 1};
__constant__ int offsets[4] = {3, 1, 4, 1};
__device__ float generated[25];

// The compiler sees through a cast that takes const away, but not through this.
template <class T> __device__ T *writable(const T &value) {
    T *pointer = const_cast<T *>(&value);
    asm("" : "+l"(pointer));
    return pointer;
}

__device__ float convolve(const unsigned char *in, int x, int y, int width, int height, const float *weights, int radius) {
    float sum = 0;
    for (int dy = -radius; dy <= radius; dy++)
        for (int dx = -radius; dx <= radius; dx++) {
            int sx = min(max(x + dx, 0), width - 1), sy = min(max(y + dy, 0), height - 1);
            sum += in[sy * width + sx] * weights[(dy + radius) * (2 * radius + 1) + dx + radius];
        }
    return sum;
}

extern "C" __global__ void blur(unsigned char *out, const unsigned char *in, int width, int height) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
#if BUG == 1
    if (x == 0 && y == 0) writable(taps)->radius = 1; // bug 1: write to constant memory
#endif
    if (x >= width || y >= height) return;
    float v = convolve(in, x, y, width, height, taps.weights, taps.radius);
    out[y * width + x] = (unsigned char)(v + 0.5f) + offsets[(x + y) & 3];
}

extern "C" __global__ void make_filter() {
    int i = threadIdx.x, dx = i % 5 - 2, dy = i / 5 - 2;
#if BUG == 2
    float *to = writable(taps.weights[0]);
#else
    float *to = generated;
#endif
    if (i < 25) to[i] = 1.f / (1 + dx * dx + dy * dy); // bug 2: write to constant memory
}

extern "C" __global__ void sharpen(float *out, const unsigned char *in, int width, int height) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
#if BUG == 3
    atomicAdd(writable(offsets[1]), 1); // bug 3: write to constant memory
#endif
    out[y * width + x] = 2 * in[y * width + x] - convolve(in, x, y, width, height, generated, 2);
}
