// A volume copied and transposed in three dimensions with every cache hint there is, a policy for
// the L2 cache, prefetches, and a volatile flag; unions, bit fields and a lambda on the way.

union voxel {
    unsigned bits;
    struct {
        unsigned value : 20, kind : 5;
        int shift : 7;
    } part;
};

extern "C" __global__ void permute(unsigned *out, const unsigned *in, int nx, int ny, int nz) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    int z = blockIdx.z * blockDim.z + threadIdx.z;
    if (x >= nx || y >= ny || z >= nz) return;
    const unsigned *from = in + ((size_t)z * ny + y) * nx + x;
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
    unsigned loads[6];
    loads[0] = __ldcg(from), loads[1] = __ldca(from), loads[2] = __ldcs(from), loads[3] = __ldlu(from), loads[4] = __ldcv(from);
    asm volatile("{ .reg .b64 policy; createpolicy.fractional.L2::evict_last.b64 policy, 1.0;\n\t"
                 "ld.global.L2::cache_hint.u32 %0, [%1], policy; }"
                 : "=r"(loads[5])
                 : "l"(from));
    voxel v;
    v.bits = loads[(x + y + z) % 6];
    auto turned = [&](int by) {
        voxel w = v;
        w.part.kind += by, w.part.shift = -w.part.shift, w.part.value ^= 0xfffff;
        return w.bits;
    };
    unsigned *to = out + ((size_t)x * nz + z) * ny + y;
    switch ((x + y) & 3) {
    case 0: __stcg(to, turned(1)); break;
    case 1: __stcs(to, turned(1)); break;
    case 2: __stwb(to, turned(1)); break;
    default: __stwt(to, turned(1));
    }
}
