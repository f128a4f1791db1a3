//! Runs PTX on the engine, without the driver in between.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::result_large_err, reason = "faults are what these tests are about")]

use softcuda::exec::{LaunchShape, Measured, Module, measure};
use softcuda::fault::{Fault, FaultKind};
use softcuda::memory::Memory;
use softcuda::{Config, Counters};

/// `.version`, `.target` and `.address_size` of everything here.
pub const HEADER: &str = ".version 8.7\n.target sm_90\n.address_size 64\n";

/// A device with memory.
pub struct Device {
    pub memory: Memory,
    pub config: Config,
}

impl Device {
    pub fn new() -> Device {
        Device::with(Config { workers: 1, ..Config::capability(9, 0) })
    }

    pub fn with(config: Config) -> Device {
        Device { memory: Memory::new(1 << 40), config }
    }

    pub fn upload<T: Copy>(&self, values: &[T]) -> u64 {
        let size = std::mem::size_of_val(values);
        // SAFETY: the values are plain numbers.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size) };
        let address = self.memory.alloc(size as u64).unwrap();
        self.memory.write(address, bytes).unwrap();
        address
    }

    pub fn download<T: Copy + Default>(&self, address: u64, count: usize) -> Vec<T> {
        let mut values = vec![T::default(); count];
        let size = std::mem::size_of_val(&values[..]);
        // SAFETY: the values are plain numbers, for which all bytes are valid.
        let bytes = unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), size) };
        self.memory.read(address, bytes).unwrap();
        values
    }

    /// Loads a module and runs its first kernel.
    pub fn launch(&self, text: &str, grid: u32, block: u32, params: &[u64]) -> Result<Counters, Fault> {
        self.launch_shared(text, grid, block, 0, params)
    }

    pub fn launch_shared(
        &self,
        text: &str,
        grid: u32,
        block: u32,
        dynamic_shared: u32,
        params: &[u64],
    ) -> Result<Counters, Fault> {
        self.measure(text, (grid, block, dynamic_shared), params).map(|measured| measured.counters)
    }

    /// The same with blocks in clusters of `cluster`.
    pub fn launch_clusters(
        &self,
        text: &str,
        (grid, cluster, block): (u32, u32, u32),
        params: &[u64],
    ) -> Result<Counters, Fault> {
        self.measure_clusters(text, (grid, cluster, block, 0), params).map(|measured| measured.counters)
    }

    /// The same, with the traffic if the configuration asks for it.
    pub fn measure(
        &self,
        text: &str,
        (grid, block, dynamic_shared): (u32, u32, u32),
        params: &[u64],
    ) -> Result<Measured, Fault> {
        self.measure_clusters(text, (grid, 1, block, dynamic_shared), params)
    }

    pub fn measure_clusters(
        &self,
        text: &str,
        (grid, cluster, block, dynamic_shared): (u32, u32, u32, u32),
        params: &[u64],
    ) -> Result<Measured, Fault> {
        let module = Module::load(text, &self.memory).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let name = module.entries().next().unwrap().to_owned();
        let shape = LaunchShape { grid: [grid, 1, 1], block: [block, 1, 1], cluster: [cluster, 1, 1], dynamic_shared };
        let bytes: Vec<u8> = params.iter().flat_map(|p| p.to_le_bytes()).collect();
        let entry = module.entry(&name).unwrap();
        measure(&module, entry, &shape, &bytes, &self.memory, &self.config)
    }
}

/// A kernel with the parameters `p0` to `p3` of 64 bits, some registers and this body.
pub fn kernel(body: &str) -> String {
    kernel_with("", body)
}

/// The same, after declarations of the module.
pub fn kernel_with(declarations: &str, body: &str) -> String {
    format!(
        "{HEADER}{declarations}
.visible .entry test(.param .u64 p0, .param .u64 p1, .param .u64 p2, .param .u64 p3)
{{
.reg .pred %p<16>;
.reg .b16 %h<32>;
.reg .b32 %r<64>;
.reg .f32 %f<32>;
.reg .b64 %rd<64>;
.reg .f64 %fd<16>;
{body}
ret;
}}
"
    )
}

/// Computes an expression for many inputs, one per thread. The body finds the inputs, as raw bits,
/// in `%a`, `%b`, `%c` (64 bits), `%a32`... and `%a16`..., and leaves its result in `%d` (64 bits),
/// or in `%d32` or `%d16` followed by `WIDEN32` or `WIDEN16`.
pub fn evaluate(body: &str, inputs: &[[u64; 3]]) -> Vec<u64> {
    evaluate_with(Config { workers: 1, ..Config::capability(9, 0) }, body, inputs)
}

/// The same on a device of this configuration.
pub fn evaluate_with(config: Config, body: &str, inputs: &[[u64; 3]]) -> Vec<u64> {
    let device = Device::with(config);
    let body = body.replace("WIDEN32", "cvt.u64.u32 %d, %d32;").replace("WIDEN16", "cvt.u64.u16 %d, %d16;");
    let text = format!(
        "{HEADER}
.visible .entry test(.param .u64 in, .param .u64 out, .param .u64 count)
{{
.reg .pred %p<8>;
.reg .b16 %a16, %b16, %c16, %d16;
.reg .b32 %a32, %b32, %c32, %d32, %i, %n, %r<16>;
.reg .b64 %a, %b, %c, %d, %in, %out, %w, %rd<16>;
ld.param.u64 %in, [in];
ld.param.u64 %out, [out];
ld.param.u32 %n, [count];
mov.u32 %i, %ctaid.x;
mov.u32 %r0, %ntid.x;
mov.u32 %r1, %tid.x;
mad.lo.s32 %i, %i, %r0, %r1;
setp.ge.u32 %p0, %i, %n;
@%p0 bra DONE;
mul.wide.u32 %w, %i, 24;
add.s64 %in, %in, %w;
ld.global.u64 %a, [%in];
ld.global.u64 %b, [%in+8];
ld.global.u64 %c, [%in+16];
cvt.u32.u64 %a32, %a;
cvt.u32.u64 %b32, %b;
cvt.u32.u64 %c32, %c;
cvt.u16.u64 %a16, %a;
cvt.u16.u64 %b16, %b;
cvt.u16.u64 %c16, %c;
{body}
mul.wide.u32 %w, %i, 8;
add.s64 %out, %out, %w;
st.global.u64 [%out], %d;
DONE:
ret;
}}
"
    );
    let flat: Vec<u64> = inputs.iter().flatten().copied().collect();
    let (input, output) = (device.upload(&flat), device.upload(&vec![0u64; inputs.len()]));
    let grid = (inputs.len() as u32).div_ceil(128);
    let params = [input, output, inputs.len() as u64];
    device.launch(&text, grid, 128, &params).unwrap_or_else(|fault| panic!("{fault}\n{text}"));
    device.download(output, inputs.len())
}

/// Compares a body with a function on all inputs.
#[track_caller]
pub fn check(body: &str, inputs: &[[u64; 3]], expected: impl Fn(u64, u64, u64) -> u64) {
    for (result, &[a, b, c]) in evaluate(body, inputs).into_iter().zip(inputs) {
        let wanted = expected(a, b, c);
        assert!(result == wanted, "{body}\n a {a:#x}\n b {b:#x}\n c {c:#x}\n got {result:#x}, expected {wanted:#x}");
    }
}

/// The fault of a kernel that must make one.
#[track_caller]
pub fn fault<T: std::fmt::Debug>(result: Result<T, Fault>, kind: FaultKind) -> Fault {
    let fault = result.expect_err("the kernel should have made an error");
    assert_eq!(fault.kind, kind, "{fault}");
    fault
}

/// The fault of a host operation that must make one.
#[track_caller]
pub fn fault_of(result: Result<(), Fault>, kind: FaultKind) -> Fault {
    let fault = result.expect_err("the operation should have been refused");
    assert_eq!(fault.kind, kind, "{fault}");
    fault
}

/// A generator of test inputs: splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Triples of values: all from a list of edge cases, and random ones.
pub fn triples(edges: &[u64], random: usize, mut value: impl FnMut(&mut Random) -> u64) -> Vec<[u64; 3]> {
    let mut rng = Random(7);
    let mut inputs = Vec::new();
    for (i, &a) in edges.iter().enumerate() {
        for (j, &b) in edges.iter().enumerate() {
            inputs.push([a, b, edges[(i * 7 + j * 3) % edges.len()]]);
        }
    }
    for _ in 0..random {
        inputs.push([value(&mut rng), value(&mut rng), value(&mut rng)]);
    }
    inputs
}
