// Bilinear resizing of an image with four bytes per pixel, without textures.

__device__ float4 pixel(const uchar4 *row, int x) {
    uchar4 p = row[x]; // bug 1: out of bounds
    return {(float)p.x, (float)p.y, (float)p.z, (float)p.w};
}

__device__ float4 mix(float4 a, float4 b, float t) {
    return {a.x + t * (b.x - a.x), a.y + t * (b.y - a.y), a.z + t * (b.z - a.z), a.w + t * (b.w - a.w)};
}

extern "C" __global__ void resize(uchar4 *out, int out_width, int out_height, const uchar4 *in, int width, int height) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= out_width || y >= out_height) return;
    float fx = (x + 0.5f) * width / out_width - 0.5f, fy = (y + 0.5f) * height / out_height - 0.5f;
    fx = fmaxf(fx, 0.f), fy = fmaxf(fy, 0.f);
    int x0 = min((int)floorf(fx), width - 1), y0 = min(__float2int_rd(fy), height - 1);
#if BUG == 1
    int x1 = x0 + 1, y1 = y0 + 1;
#else
    int x1 = min(x0 + 1, width - 1), y1 = min(y0 + 1, height - 1);
#endif
    const uchar4 *top = in + y0 * width, *bottom = in + y1 * width;
    float4 v = mix(mix(pixel(top, x0), pixel(top, x1), fx - x0), mix(pixel(bottom, x0), pixel(bottom, x1), fx - x0), fy - y0);
    out[y * out_width + x] = {(unsigned char)__float2uint_rn(v.x), (unsigned char)__float2uint_rn(v.y),
                              (unsigned char)__float2uint_rn(v.z), (unsigned char)__float2uint_rn(v.w)};
}
