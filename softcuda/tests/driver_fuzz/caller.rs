//! A caller: draws arguments, remembers what calls made.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, c_void};
use std::sync::{Mutex, PoisonError};

use cudarc::driver::sys;
use softcuda::{Gpu, When};

use super::functions::{Function, functions};

/// A generator of its own, so that a failing call can be repeated.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        // Good enough that what is drawn one after the other has nothing to do with each other.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Small numbers, numbers near powers of two, and any.
    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(64),
            1 => (1_u64 << self.below(64)).wrapping_add(self.below(3)).wrapping_sub(1),
            2 => self.below(1 << 20),
            _ => self.next(),
        }
    }

    fn pick(&mut self, known: &[u64]) -> u64 {
        if !known.is_empty() && self.below(8) > 0 {
            known[self.below(known.len() as u64) as usize]
        } else {
            self.number()
        }
    }
}

/// What earlier calls made, by kind: to be used rightly, wrongly and after its end.
#[derive(Default)]
pub struct Made {
    pub lists: HashMap<u8, Vec<u64>>,
    /// All pinned memory there ever was, to be given back.
    pub pinned: Vec<u64>,
    /// All libraries, which belong to no device and end with none.
    pub libraries: Vec<u64>,
}

impl Made {
    /// A handle, mostly of the kind asked for.
    fn pick(&self, kind: u8, random: &mut Random) -> u64 {
        const KINDS: &[u8] = b"SEMFLKCPNAGXdg";
        let kind = if random.below(12) == 0 { KINDS[random.below(KINDS.len() as u64) as usize] } else { kind };
        random.pick(self.lists.get(&kind).map_or(&[], Vec::as_slice))
    }

    /// Keeps the last few.
    fn add(&mut self, kind: u8, value: u64, random: &mut Random) {
        let list = self.lists.entry(kind).or_default();
        list.push(value);
        // Few graphs, so that a graph, a node and what was made of both meet now and then.
        let most = if matches!(kind, b'G' | b'X' | b'd') { 8 } else { 20 };
        if list.len() > most {
            list.swap_remove(random.below(most as u64) as usize);
        }
    }
}

/// Bytes of a buffer of the host's, and how many of them a call is told of.
pub const ROOM: usize = 1 << 16;
const BYTES: u64 = 4096;

/// What pointers point to. It outlives the run: pinned by one call, it may be used by a later one.
pub struct Buffers {
    pub host: &'static mut [u64],
    pub out: [u64; 1024],
    pub made: u64,
    pub lists: [[u64; 8]; 2],
    pub words: [u64; 32],
    pub values: [u64; 8],
    pub pointers: [*const c_void; 8],
    pub attributes: [[u64; 9]; 3],
    /// Structures and lists of the other kinds. A call may take two of them.
    pub things: [[u64; 32]; 2],
    pub turn: usize,
}

extern "C" fn called_back(_argument: *mut c_void) {}
extern "C" fn called_back_with_state(_stream: *mut c_void, _state: u32, _argument: *mut c_void) {}

const NAMES: [&CStr; 8] = [c"scale", c"scale", c"scale", c"x", c"x", c"cuMemAlloc", c"", c"0000:00:00.0"];

/// One caller: a thread with its buffers.
pub struct Caller<'a> {
    pub random: Random,
    pub made: &'a Mutex<Made>,
    pub buffers: Box<Buffers>,
    /// Handles and ordinals of two devices: one for most calls, and one for some.
    pub devices: [(u64, u64); 2],
    pub file: &'a CStr,
    pub images: &'a [Vec<u8>],
    /// The functions that have done what they were asked to at least once.
    pub succeeded: BTreeSet<&'static str>,
}

impl Caller<'_> {
    fn known(&mut self, kind: u8) -> u64 {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.pick(kind, &mut self.random)
    }

    /// A value for an argument of a kind.
    fn argument(&mut self, kind: u8) -> u64 {
        let random = &mut self.random;
        match kind {
            b'0' | b'1' | b'4' => u64::from(kind - b'0'),
            b'D' => {
                let which = random.below(16);
                if which > 0 {
                    self.devices[usize::from(which == 1)].0
                } else {
                    // Other ordinals are other tests' devices.
                    random.number() << 32 | 0x7FFF_FFFF
                }
            }
            b'h' => self.buffers.host.as_ptr() as u64 + random.below(8) * 8,
            b'b' => random.below(BYTES),
            b'o' => self.buffers.out.as_ptr() as u64,
            b'z' | b'w' => random.number(),
            b'Z' => random.below(BYTES) << [0, 48][random.below(2) as usize],
            b'i' => random.number() & 0xFFFF_FFFF,
            b's' => random.below(40),
            b'f' => random.below(4),
            b'c' => random.below(8),
            b'j' => random.below(4),
            b'n' => NAMES[random.below(NAMES.len() as u64) as usize].as_ptr() as u64,
            b'm' => self.images[random.below(self.images.len() as u64) as usize].as_ptr() as u64,
            b'V' => called_back as *const () as u64,
            b'W' => called_back_with_state as *const () as u64,
            b'U' => {
                for at in 0..8 {
                    // Two 32-bit numbers to a word.
                    self.buffers.lists[0][at] = random.below(24) << 32 | random.below(24);
                }
                self.buffers.lists[0].as_ptr() as u64
            }
            b'O' => {
                let start = self.buffers.out.as_ptr() as u64;
                self.buffers.lists[1] = std::array::from_fn(|at| start + 64 * at as u64);
                self.buffers.lists[1].as_ptr() as u64
            }
            b'a' if random.below(2) == 0 => self.argument(b'h'),
            b'a' => self.argument(b'A'),
            b'I' => random.below(6) | self.ordinal() << 32,
            b'J' => self.file.as_ptr() as u64,
            b'T' => c"/dev/null".as_ptr() as u64,
            b'u' => self.thing(|caller| vec![caller.random.below(4)]),
            b'x' => self.thing(|caller| vec![caller.random.below(16)]),
            b'q' => self.thing(|caller| (0..8).map(|_| caller.known(b'd')).collect()),
            b'R' => self.thing(|caller| (0..8).map(|_| caller.random.below(4) * 4).collect()),
            // Of this device, most of the time.
            b'r' => self.thing(|caller| vec![1, (1 + caller.random.below(8) / 7) | caller.ordinal() << 32, 0]),
            b'e' => self.thing(|caller| {
                // Three numbers of 32 bits each: the kind of the place, which one, and the access.
                let mut place = || {
                    (
                        1 + caller.random.below(8) / 7,
                        caller.ordinal(),
                        [0, 1, 2, 3, 3, 3][caller.random.below(6) as usize],
                    )
                };
                let (first, second, third) = (place(), place(), place());
                vec![
                    first.0 | first.1 << 32,
                    first.2 | second.0 << 32,
                    second.1 | second.2 << 32,
                    third.0 | third.1 << 32,
                    third.2,
                ]
            }),
            b'3' => self.copy_of_planes(),
            b'k' => self.kernel_node(),
            b'y' => self.thing(|caller| {
                let (at, random) = (caller.known(b'A'), &mut caller.random);
                let element = [1, 2, 4, random.below(9)][random.below(4) as usize];
                vec![at, random.below(128), random.below(256) | element << 32, random.below(32), random.below(4)]
            }),
            b'v' => self.thing(|_| vec![called_back as *const () as u64, 0]),
            b'B' => self.thing(|caller| {
                let mut words = vec![0; 16];
                words[13] = caller.random.below(BYTES);
                words
            }),
            b't' => self.thing(|caller| vec![caller.random.below(12), caller.known(b'S'), 0, 0]),
            b'2' => self.pitched_copy(),
            b'l' => self.launch_config(),
            b'p' => {
                for at in 0..8 {
                    self.buffers.values[at] = if at < 2 { self.known(b'A') } else { self.random.below(64) };
                }
                self.buffers.pointers = std::array::from_fn(|at| (&raw const self.buffers.values[at]).cast());
                self.buffers.pointers.as_ptr() as u64
            }
            b'A' => self.known(b'A').wrapping_add(if self.random.below(2) == 0 { 0 } else { self.random.below(64) }),
            kind => self.known(kind),
        }
    }

    /// The ordinal of one of the devices.
    fn ordinal(&mut self) -> u64 {
        self.devices[usize::from(self.random.below(4) == 0)].1
    }

    /// A structure or list of its own, which lives until the next call.
    fn thing(&mut self, words: impl FnOnce(&mut Self) -> Vec<u64>) -> u64 {
        let words = words(self);
        let turn = self.buffers.turn % 2;
        self.buffers.turn += 1;
        self.buffers.things[turn][..words.len()].copy_from_slice(&words);
        self.buffers.things[turn].as_ptr() as u64
    }

    /// One side of a `CUDA_MEMCPY3D`, whose host end lies inside the buffer.
    fn side_of_planes(&mut self) -> [u64; 11] {
        let host = self.buffers.host.as_ptr() as u64;
        let kind = [1, 2, 4, 4, self.random.below(6)][self.random.below(5) as usize];
        let device = if kind == 4 { self.argument(b'a') } else { self.known(b'A') };
        let random = &mut self.random;
        let mut small = |bound| random.below(bound);
        [small(16), small(4), small(3), 0, kind, host, device, 0, 0, small(256), small(16)]
    }

    /// `CUDA_MEMCPY3D`.
    fn copy_of_planes(&mut self) -> u64 {
        let (from, to) = (self.side_of_planes(), self.side_of_planes());
        let size = [self.random.below(64), self.random.below(8), self.random.below(4)];
        self.thing(|_| [&from[..], &to[..], &size[..]].concat())
    }

    /// `CUDA_KERNEL_NODE_PARAMS`.
    fn kernel_node(&mut self) -> u64 {
        let kind = if self.random.below(4) > 0 { b'F' } else { b'K' };
        let (function, params) = (self.known(kind), self.argument(b'p'));
        let random = &mut self.random;
        let (grid, block) = (random.below(3), random.below(100));
        let words = vec![function, grid | 1 << 32, 1 | block << 32, 1 | 1 << 32, random.below(64), params, 0, 0, 0];
        self.thing(|_| words)
    }

    /// `CUDA_MEMCPY2D`, whose host ends lie inside the buffer.
    fn pitched_copy(&mut self) -> u64 {
        let host = self.buffers.host.as_ptr() as u64;
        let (from, to) = (self.known(b'A'), self.known(b'A'));
        let random = &mut self.random;
        let mut kind = || 1 + random.below(2);
        let kinds = (kind(), kind());
        let mut small = |bound| random.below(bound);
        self.buffers.words[..16].copy_from_slice(&[
            small(16),
            small(8),
            kinds.0,
            host,
            from,
            0,
            small(256),
            small(16),
            small(8),
            kinds.1,
            host,
            to,
            0,
            small(256),
            small(128),
            small(16),
        ]);
        self.buffers.words.as_ptr() as u64
    }

    /// `CUlaunchConfig`, with any attributes.
    fn launch_config(&mut self) -> u64 {
        let (stream, count) = (self.known(b'S'), self.random.below(4));
        let random = &mut self.random;
        for attribute in &mut self.buffers.attributes {
            *attribute = std::array::from_fn(|_| random.below(4) << 32 | random.below(4));
            attribute[0] = random.below(24);
        }
        let mut pair = |low, high| random.below(low) | random.below(high) << 32;
        // Now and then a side of 0, which is none.
        let words = [pair(9, 3), pair(3, 100), pair(3, 3), pair(5000, 1), stream];
        let sides = if pair(4, 1) > 0 { [1 | 1 << 32; 3] } else { [0; 3] };
        let words = [words[0] | sides[0], words[1] | sides[1], words[2] | sides[2], words[3], words[4]];
        // Three words for the grid, three for the block, one for shared memory and one of padding.
        self.buffers.words[..4].copy_from_slice(&words[..4]);
        self.buffers.words[4] = words[4];
        self.buffers.words[5] = self.buffers.attributes.as_ptr() as u64;
        self.buffers.words[6] = count;
        self.buffers.words.as_ptr() as u64
    }

    /// One random call. Gives its name and its answer.
    fn call(&mut self, functions: &[(&'static str, Vec<&'static str>, Function)]) -> (&'static str, u32) {
        let (name, kinds, function) = &functions[self.random.below(functions.len() as u64) as usize];
        let (mut arguments, mut makes) = ([0; 11], None);
        self.buffers.made = 0;
        for (argument, kind) in arguments.iter_mut().zip(kinds) {
            *argument = match kind.as_bytes() {
                [b'>', kind] => {
                    makes = Some(*kind);
                    (&raw mut self.buffers.made) as u64
                }
                [kind, ..] => self.argument(*kind),
                [] => 0,
            };
        }
        let [a, b, c, d, e, f, g, h, i, j, k] = arguments;
        // A caller may pass more integers than a C function takes, on the platforms this driver is for.
        let answer = unsafe { function(a, b, c, d, e, f, g, h, i, j, k) };
        let made = unsafe { (&raw const self.buffers.made).read_volatile() };
        if let Some(kind) = makes.filter(|_| answer == 0 && made != 0) {
            let mut all = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            all.add(kind, made, &mut self.random);
            match kind {
                b'H' => all.pinned.push(made),
                b'L' => all.libraries.push(made),
                _ => {}
            }
            if matches!(kind, b'H' | b'g') {
                all.add(b'A', made, &mut self.random);
            }
        }
        (name, answer)
    }

    /// Makes a working primary context current, a new one if need be.
    fn recover(&mut self) {
        let device = self.devices[0].0 as i32;
        unsafe {
            let mut context = std::ptr::null_mut();
            if sys::cuDevicePrimaryCtxRetain(&mut context, device) as u32 == 0 {
                sys::cuCtxSetCurrent(context);
            }
            if sys::cuCtxSynchronize() as u32 != 0 {
                sys::cuDevicePrimaryCtxReset_v2(device);
                sys::cuDevicePrimaryCtxRetain(&mut context, device);
                sys::cuCtxSetCurrent(context);
            }
        }
    }

    /// Many calls, none of which may fail inside the driver.
    pub fn run(&mut self, gpu: &Gpu, seed: u64, steps: u32) {
        let mut functions = functions();
        // Every other time mostly graphs, and what their nodes need: among all functions the handles
        // that belong together hardly ever meet.
        const OF_GRAPHS: [&str; 8] =
            ["Graph", "Capture", "cuEvent", "cuStreamCreate", "cuMemAlloc_v2", "cuModule", "Library", "cuKernel"];
        if seed % 2 == 1 {
            functions.retain(|(name, ..)| OF_GRAPHS.iter().any(|part| name.contains(part)));
        }
        const CODES: [u32; 5] = [1, 2, 100, 201, 700];
        for step in 0..steps {
            if step % 8 == 0 {
                self.recover();
            }
            match self.random.below(1000) {
                0 => {
                    let (name, when) = (functions[self.random.below(functions.len() as u64) as usize].0, When::Nth(2));
                    gpu.fail(name, when, CODES[self.random.below(5) as usize]).unwrap();
                }
                1 => gpu.stop_failing(),
                _ => {}
            }
            let (name, answer) = self.call(&functions);
            if answer == 0 {
                self.succeeded.insert(name);
            }
            assert_ne!(answer, 999, "seed {seed}, step {step}, {name}: {:?}", gpu.report());
        }
    }
}
