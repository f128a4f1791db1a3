// What CUDA's intrinsics compile to, each line with the PTX instruction whose semantics it must have. Compile with
//   nvrtc --gpu-architecture=compute_XX --std=c++17 [--ftz=true]
// The test (ptx_oracle/compiled.rs) reads the lines: F, D, U and L store an f32, an f64, 32 and 64 bits; fa to fc,
// da to dc, ua to uc, sa and sb, and la to lc, are the inputs' bits as f32, f64, 32 bits without and with sign, and 64.

#define F(value) *o++ = __float_as_uint(value);
#define D(value) *o++ = __double_as_longlong(value);
#define U(value) *o++ = (unsigned)(value);
#define L(value) *o++ = (unsigned long long)(value);

extern "C" __global__ void semantics(unsigned long long* out, const unsigned long long* in, int n, int lines) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned long long *o = out + (long long)i * lines, la = in[3 * i], lb = in[3 * i + 1], lc = in[3 * i + 2];
    unsigned ua = la, ub = lb, uc = lc;
    int sa = ua, sb = ub;
    float fa = __uint_as_float(ua), fb = __uint_as_float(ub), fc = __uint_as_float(uc);
    double da = __longlong_as_double(la), db = __longlong_as_double(lb), dc = __longlong_as_double(lc);
    F(__fadd_rn(fa, fb)) // add.rn.f32
    F(__fadd_rz(fa, fb)) // add.rz.f32
    F(__fadd_rd(fa, fb)) // add.rm.f32
    F(__fadd_ru(fa, fb)) // add.rp.f32
    F(__fsub_rd(fa, fb)) // sub.rm.f32
    F(__fmul_rn(fa, fb)) // mul.rn.f32
    F(__fmul_rz(fa, fb)) // mul.rz.f32
    F(__fmul_rd(fa, fb)) // mul.rm.f32
    F(__fmul_ru(fa, fb)) // mul.rp.f32
    F(__fmaf_rn(fa, fb, fc)) // fma.rn.f32
    F(__fmaf_rz(fa, fb, fc)) // fma.rz.f32
    F(__fmaf_rd(fa, fb, fc)) // fma.rm.f32
    F(__fmaf_ru(fa, fb, fc)) // fma.rp.f32
    F(__fdiv_rn(fa, fb)) // div.rn.f32
    F(__fdiv_rz(fa, fb)) // div.rz.f32
    F(__fdiv_rd(fa, fb)) // div.rm.f32
    F(__fdiv_ru(fa, fb)) // div.rp.f32
    F(__frcp_rn(fa)) // rcp.rn.f32
    F(__frcp_rz(fa)) // rcp.rz.f32
    F(__fsqrt_rn(fa)) // sqrt.rn.f32
    F(__fsqrt_ru(fa)) // sqrt.rp.f32
    F(fa + fb) // add.f32
    F(fa * fb) // mul.f32
    F(__saturatef(fa)) // cvt.sat.f32.f32
    F(fminf(fa, fb)) // min.f32
    F(fmaxf(fa, fb)) // max.f32
    F(rintf(fa)) // cvt.rni.f32.f32
    F(floorf(fa)) // cvt.rmi.f32.f32
    F(ceilf(fa)) // cvt.rpi.f32.f32
    F(truncf(fa)) // cvt.rzi.f32.f32
    D(__dadd_rn(da, db)) // add.rn.f64
    D(__dadd_rz(da, db)) // add.rz.f64
    D(__dadd_rd(da, db)) // add.rm.f64
    D(__dadd_ru(da, db)) // add.rp.f64
    D(__dmul_rz(da, db)) // mul.rz.f64
    D(__dmul_ru(da, db)) // mul.rp.f64
    D(__fma_rn(da, db, dc)) // fma.rn.f64
    D(__fma_rd(da, db, dc)) // fma.rm.f64
    D(__ddiv_rn(da, db)) // div.rn.f64
    D(__ddiv_ru(da, db)) // div.rp.f64
    D(__drcp_rd(da)) // rcp.rm.f64
    D(__dsqrt_rz(da)) // sqrt.rz.f64
    D(fmin(da, db)) // min.f64
    D(floor(da)) // cvt.rmi.f64.f64
    F(__double2float_rn(da)) // cvt.rn.f32.f64
    F(__double2float_rz(da)) // cvt.rz.f32.f64
    F(__double2float_rd(da)) // cvt.rm.f32.f64
    D((double)fa) // cvt.f64.f32
    U(__float2int_rn(fa)) // cvt.rni.s32.f32
    U(__float2int_rz(fa)) // cvt.rzi.s32.f32
    U(__float2int_rd(fa)) // cvt.rmi.s32.f32
    U(__float2int_ru(fa)) // cvt.rpi.s32.f32
    U(__float2uint_rn(fa)) // cvt.rni.u32.f32
    U(__float2uint_rz(fa)) // cvt.rzi.u32.f32
    L(__float2ll_rd(fa)) // cvt.rmi.s64.f32
    L(__float2ull_ru(fa)) // cvt.rpi.u64.f32
    U(__double2int_rn(da)) // cvt.rni.s32.f64
    U(__double2uint_rz(da)) // cvt.rzi.u32.f64
    L(__double2ll_rz(da)) // cvt.rzi.s64.f64
    L(__double2ull_rn(da)) // cvt.rni.u64.f64
    F(__int2float_rn(sa)) // cvt.rn.f32.s32
    F(__int2float_rz(sa)) // cvt.rz.f32.s32
    F(__uint2float_rd(ua)) // cvt.rm.f32.u32
    F(__uint2float_ru(ua)) // cvt.rp.f32.u32
    F(__ll2float_rn((long long)la)) // cvt.rn.f32.s64
    F(__ull2float_rd(la)) // cvt.rm.f32.u64
    D(__ll2double_rn((long long)la)) // cvt.rn.f64.s64
    D(__ull2double_rz(la)) // cvt.rz.f64.u64
    D((double)sa) // cvt.rn.f64.s32
    U(sa + sb) // add.s32
    U(sa - sb) // sub.s32
    U(sa * sb) // mul.lo.s32
    U(__mulhi(sa, sb)) // mul.hi.s32
    U(__umulhi(ua, ub)) // mul.hi.u32
    L(__mul64hi((long long)la, (long long)lb)) // mul.hi.s64
    L(__umul64hi(la, lb)) // mul.hi.u64
    U(__mul24(sa, sb)) // mul24.lo.s32
    U(__umul24(ua, ub)) // mul24.lo.u32
    L((long long)sa * sb) // mul.wide.s32
    L((unsigned long long)ua * ub) // mul.wide.u32
    L((long long)sa * sb + (long long)lc) // mad.wide.s32
    U(__sad(sa, sb, uc)) // sad.s32
    U(__usad(ua, ub, uc)) // sad.u32
    U(ub ? ua / ub : 0xffffffffu) // div.u32
    U(ub ? ua % ub : ua) // rem.u32
    L(lb ? la / lb : 0) // div.u64
    U(min(sa, sb)) // min.s32
    U(max(ua, ub)) // max.u32
    L(min((long long)la, (long long)lb)) // min.s64
    L(max(la, lb)) // max.u64
    U(abs(sa)) // abs.s32
    L(llabs((long long)la)) // abs.s64
    U(__popc(ua)) // popc.b32
    U(__popcll(la)) // popc.b64
    U(__clz(sa)) // clz.b32
    U(__clzll((long long)la)) // clz.b64
    U(__brev(ua)) // brev.b32
    L(__brevll(la)) // brev.b64
    U(__byte_perm(ua, ub, uc & 0x7777)) // prmt.b32 &0x7777
    U(__funnelshift_l(ua, ub, uc)) // shf.l.wrap.b32
    U(__funnelshift_lc(ua, ub, uc)) // shf.l.clamp.b32
    U(__funnelshift_r(ua, ub, uc)) // shf.r.wrap.b32
    U(__funnelshift_rc(ua, ub, uc)) // shf.r.clamp.b32
    U(ua & ub) // and.b32
    L(la ^ lb) // xor.b64
    U(~ua) // not.b32
    U((signed char)ua) // cvt.s32.s8
    L((long long)sa) // cvt.s64.s32
}
