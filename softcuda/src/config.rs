//! What a virtual device is: its capability, limits and the driver it pretends to have.

/// The properties of one virtual device.
///
/// Start from [`Config::capability`] and change what the test is about:
///
/// ```
/// use softcuda::Config;
/// let small = Config { sm_count: 4, memory_bytes: 1 << 30, ..Config::capability(9, 0) };
/// assert_eq!(small.shared_per_block_optin, 227 * 1024);
/// ```
///
/// Plain numbers only: it crosses a C boundary.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Compute capability, major part: 9 of 9.0.
    pub capability_major: u32,
    /// Compute capability, minor part: 6 of 8.6.
    pub capability_minor: u32,
    /// Streaming multiprocessors.
    pub sm_count: u32,
    /// Threads per warp. The engine knows 32 only.
    pub warp_size: u32,
    /// Threads a block may have.
    pub max_threads_per_block: u32,
    /// Threads that can be resident on one multiprocessor.
    pub max_threads_per_sm: u32,
    /// Blocks that can be resident on one multiprocessor.
    pub max_blocks_per_sm: u32,
    /// 32-bit registers a block may use.
    pub registers_per_block: u32,
    /// 32-bit registers of one multiprocessor.
    pub registers_per_sm: u32,
    /// Shared memory a block may use without opting in, in bytes.
    pub shared_per_block: u32,
    /// Shared memory a block may use after `MAX_DYNAMIC_SHARED_SIZE_BYTES` was raised, in bytes.
    pub shared_per_block_optin: u32,
    /// Shared memory of one multiprocessor, in bytes.
    pub shared_per_sm: u32,
    /// Shared memory that the driver takes for itself from each resident block, in bytes.
    pub shared_reserved: u32,
    /// Size of the L2 cache, in bytes.
    pub l2_bytes: u32,
    /// Memory clock in kHz. Reported only: nothing here takes time from it.
    pub memory_clock_khz: u32,
    /// Width of the memory bus in bits. Reported only.
    pub bus_width_bits: u32,
    /// Clock of the multiprocessors in kHz. Reported only.
    pub sm_clock_khz: u32,
    /// Blocks a thread-block cluster may have; 0 before capability 9.0. Sizes above 8 need the
    /// function attribute that allows non-portable sizes.
    pub max_cluster: u32,
    /// Graphics processing clusters, over which the multiprocessors are spread as evenly as pairs
    /// of them go; a thread-block cluster lives in one.
    pub gpc_count: u32,
    /// CUDA version of the driver, `1000 * major + 10 * minor`. It bounds the PTX versions accepted.
    pub driver_version: u32,
    /// Host threads that run independent blocks.
    pub workers: u32,
    /// Device memory in bytes. It is reserved lazily, so a large number costs nothing.
    pub memory_bytes: u64,
    /// Seed of every order the hardware leaves open.
    pub seed: u64,
    /// Whether launches are traced: where their traffic goes, how often they read the same bytes,
    /// what remains of it behind the L2 cache, and how many bytes they keep in flight; see
    /// [`Traffic`](crate::Traffic). A traced launch runs on one host thread and takes about
    /// four times as long.
    pub trace: bool,
    /// Operations that a warp may execute before it is given up as one that never ends.
    pub max_steps: u64,
    /// Whether races between threads are looked for.
    pub races: bool,
    /// What approximate instructions give, of what NVIDIA's manual allows.
    pub approximation: Approximation,
    /// Runs work when it is submitted, instead of when it is waited for. Host code that forgets to
    /// synchronise gets away with it then.
    pub eager: bool,
    /// Reserved for engine switches; 0.
    pub flags: u64,
}

/// What approximate instructions (`ex2`, `lg2`, `sin`, `cos`, `tanh`, `rcp`, `rsqrt`, `sqrt` and `div`
/// with `.approx` or `.full`) give.
///
/// The PTX manual bounds their errors; what a device gives lies somewhere within. A kernel that is
/// right at both bounds and in between does not depend on a device's luck. Results that the manual
/// lists, those of zeros, infinities and NaN, are always exact, nothing leaves its function's range,
/// and equal operands give equal results. `rcp` and `rsqrt` with `.approx.ftz.f64` have no documented
/// error; they move by one unit of their 20 bits.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Approximation {
    /// The nearest number, or its neighbour.
    #[default]
    Nearest = 0,
    /// The largest number that the manual allows.
    Upper = 1,
    /// The smallest number that the manual allows.
    Lower = 2,
    /// Any number that the manual allows, drawn from [`Config::seed`] and the operands.
    Random = 3,
}

/// The limits by which NVIDIA's devices differ; a row of the CUDA programming guide's table
/// "technical specifications per compute capability" with the product that stands for it.
struct Product {
    name: &'static str,
    capability: (u32, u32),
    sm_count: u32,
    threads_per_sm: u32,
    blocks_per_sm: u32,
    shared_per_sm_kib: u32,
    shared_optin_kib: u32,
    shared_reserved: u32,
    l2_kib: u32,
    memory_clock_mhz: u32,
    bus_width_bits: u32,
    sm_clock_mhz: u32,
    max_cluster: u32,
    gpc_count: u32,
}

/// In ascending order of capability.
#[rustfmt::skip]
const PRODUCTS: [Product; 7] = [
    Product { name: "T4", capability: (7, 5), sm_count: 40, threads_per_sm: 1024, blocks_per_sm: 16,
        shared_per_sm_kib: 64, shared_optin_kib: 64, shared_reserved: 0, l2_kib: 4 << 10,
        memory_clock_mhz: 5001, bus_width_bits: 256, sm_clock_mhz: 1590, max_cluster: 0,
        gpc_count: 5 },
    Product { name: "A100", capability: (8, 0), sm_count: 108, threads_per_sm: 2048, blocks_per_sm: 32,
        shared_per_sm_kib: 164, shared_optin_kib: 163, shared_reserved: 1024, l2_kib: 40 << 10,
        memory_clock_mhz: 1215, bus_width_bits: 5120, sm_clock_mhz: 1410, max_cluster: 0,
        gpc_count: 7 },
    Product { name: "A40", capability: (8, 6), sm_count: 84, threads_per_sm: 1536, blocks_per_sm: 16,
        shared_per_sm_kib: 100, shared_optin_kib: 99, shared_reserved: 1024, l2_kib: 6 << 10,
        memory_clock_mhz: 7251, bus_width_bits: 384, sm_clock_mhz: 1740, max_cluster: 0,
        gpc_count: 7 },
    Product { name: "L40S", capability: (8, 9), sm_count: 142, threads_per_sm: 1536, blocks_per_sm: 24,
        shared_per_sm_kib: 100, shared_optin_kib: 99, shared_reserved: 1024, l2_kib: 96 << 10,
        memory_clock_mhz: 9001, bus_width_bits: 384, sm_clock_mhz: 2520, max_cluster: 0,
        gpc_count: 12 },
    Product { name: "H100", capability: (9, 0), sm_count: 132, threads_per_sm: 2048, blocks_per_sm: 32,
        shared_per_sm_kib: 228, shared_optin_kib: 227, shared_reserved: 1024, l2_kib: 50 << 10,
        memory_clock_mhz: 2619, bus_width_bits: 5120, sm_clock_mhz: 1980, max_cluster: 16,
        gpc_count: 8 },
    Product { name: "B200", capability: (10, 0), sm_count: 148, threads_per_sm: 2048, blocks_per_sm: 32,
        shared_per_sm_kib: 228, shared_optin_kib: 227, shared_reserved: 1024, l2_kib: 126 << 10,
        memory_clock_mhz: 3996, bus_width_bits: 8192, sm_clock_mhz: 1965, max_cluster: 16,
        gpc_count: 8 },
    Product { name: "RTX 5090", capability: (12, 0), sm_count: 170, threads_per_sm: 1536, blocks_per_sm: 24,
        shared_per_sm_kib: 100, shared_optin_kib: 99, shared_reserved: 1024, l2_kib: 96 << 10,
        memory_clock_mhz: 14001, bus_width_bits: 512, sm_clock_mhz: 2407, max_cluster: 8,
        gpc_count: 11 },
];

impl Product {
    /// The product with the nearest capability that is not higher, or the lowest.
    fn of(major: u32, minor: u32) -> &'static Product {
        let mut descending = PRODUCTS.iter().rev();
        descending.find(|product| product.capability <= (major, minor)).unwrap_or(&PRODUCTS[0])
    }
}

/// The driver that devices pretend to have: CUDA 13.5, which reads PTX up to 9.5.
const DRIVER_VERSION: u32 = 13_050;

impl Config {
    /// A device of this compute capability with NVIDIA's published limits: 7.5 is a T4, 8.0 an
    /// A100, 8.6 an A40, 8.9 an L40S, 9.0 an H100, 10.0 a B200, 12.0 an RTX 5090.
    ///
    /// Any other capability gets the limits of the nearest lower one in that list (the lowest, if
    /// there is none) and reports itself as asked. Device memory is 128 GiB, whatever the product
    /// has; the driver is that of CUDA 13.5.
    pub fn capability(major: u32, minor: u32) -> Config {
        let product = Product::of(major, minor);
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        Config {
            capability_major: major,
            capability_minor: minor,
            sm_count: product.sm_count,
            warp_size: 32,
            max_threads_per_block: 1024,
            max_threads_per_sm: product.threads_per_sm,
            max_blocks_per_sm: product.blocks_per_sm,
            registers_per_block: 65_536,
            registers_per_sm: 65_536,
            shared_per_block: 48 << 10,
            shared_per_block_optin: product.shared_optin_kib << 10,
            shared_per_sm: product.shared_per_sm_kib << 10,
            shared_reserved: product.shared_reserved,
            l2_bytes: product.l2_kib << 10,
            memory_clock_khz: product.memory_clock_mhz * 1000,
            bus_width_bits: product.bus_width_bits,
            sm_clock_khz: product.sm_clock_mhz * 1000,
            max_cluster: product.max_cluster,
            gpc_count: product.gpc_count,
            driver_version: DRIVER_VERSION,
            workers,
            memory_bytes: 128 << 30,
            seed: 0,
            eager: false,
            trace: false,
            max_steps: 1 << 32,
            races: true,
            approximation: Approximation::Nearest,
            flags: 0,
        }
    }

    /// What is wrong with the numbers, if a device cannot be made of them.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let positive = [
            (self.sm_count, "sm_count is 0"),
            (self.max_threads_per_block, "max_threads_per_block is 0"),
            (self.max_threads_per_sm, "max_threads_per_sm is 0"),
            (self.max_blocks_per_sm, "max_blocks_per_sm is 0"),
            (self.workers, "workers is 0"),
            (self.gpc_count, "gpc_count is 0"),
        ];
        if self.warp_size != 32 {
            return Some("warp_size is not 32");
        }
        if self.capability_major > 99 || self.capability_minor > 9 {
            return Some("the compute capability is above 99.9");
        }
        if self.memory_bytes == 0 {
            return Some("memory_bytes is 0");
        }
        positive.iter().find(|(value, _)| *value == 0).map(|(_, what)| *what)
    }

    /// The product whose limits these are, for the device's name.
    pub(crate) fn product(&self) -> &'static str {
        Product::of(self.capability_major, self.capability_minor).name
    }
}

impl Default for Config {
    /// An A100: the oldest capability with asynchronous copies and the common denominator of
    /// data-centre devices.
    fn default() -> Config {
        Config::capability(8, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_capabilities_take_the_limits_of_the_nearest_lower_one() {
        let thor = Config::capability(10, 3);
        assert_eq!((thor.capability_major, thor.capability_minor), (10, 3));
        assert_eq!(thor.sm_count, Config::capability(10, 0).sm_count);
        assert_eq!(Config::capability(8, 7).shared_per_sm, Config::capability(8, 6).shared_per_sm);
        assert_eq!(Config::capability(5, 0).max_threads_per_sm, 1024);
        assert_eq!(Config::capability(99, 9).max_cluster, 8);
    }

    #[test]
    fn a_block_that_opts_in_fits_the_multiprocessor() {
        for product in &PRODUCTS {
            let config = Config::capability(product.capability.0, product.capability.1);
            assert!(config.shared_per_block_optin + config.shared_reserved <= config.shared_per_sm);
            assert!(config.shared_per_block <= config.shared_per_block_optin);
        }
    }
}
