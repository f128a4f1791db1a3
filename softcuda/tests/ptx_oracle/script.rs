//! Small kernels around one instruction, whose results say what it did.

use softcuda::Config;
use softcuda::fault::FaultKind;
use softcuda::lower::table::Form;

use crate::opcode::Checked;
use crate::ptx_support::{Device, kernel_with};

/// Shared memory for data and for mbarrier objects.
const SHARED: &str = ".shared .align 64 .b8 tile[1024]; .shared .align 8 .b64 bar[4];
    .func (.reg .b32 %o) function(.reg .b32 %i) { shl.b32 %o, %i, 1; ret; }";

/// Blocks, all in one cluster or each for itself, and threads of each.
#[derive(Clone, Copy)]
pub struct Shape {
    pub blocks: u32,
    pub cluster: bool,
    pub threads: u32,
}

pub const ONE: Shape = Shape { blocks: 1, cluster: false, threads: 1 };

/// What a script leaves: `%r20` to `%r23` of every thread, and the 1024 bytes that `%rd40` points to.
pub struct Outcome {
    pub words: Vec<[u32; 4]>,
    pub memory: Vec<u8>,
}

/// Runs a body on a device with a seed. `%r50` is the thread, `%r51` the block, `%rd40` global memory.
pub fn run(seed: u64, shape: Shape, memory: &[u8], body: &str) -> Result<Outcome, (FaultKind, String)> {
    let device = Device::with(Config { workers: 1, seed, ..Config::capability(10, 0) });
    let threads = (shape.blocks * shape.threads) as usize;
    let mut bytes = memory.to_vec();
    bytes.resize(1024, 0xee);
    let (global, out) = (device.upload(&bytes), device.upload(&vec![[0u32; 4]; threads]));
    let text = kernel_with(
        SHARED,
        &format!(
            "ld.param.u64 %rd40, [p0]; ld.param.u64 %rd41, [p1]; mov.u32 %r50, %tid.x; mov.u32 %r51, %ctaid.x;
             mov.u32 %r52, %ntid.x; mad.lo.u32 %r53, %r51, %r52, %r50; mad.wide.u32 %rd41, %r53, 16, %rd41;
             mov.u32 %r20, 0; mov.u32 %r21, 0; mov.u32 %r22, 0; mov.u32 %r23, 0;
             {body}
             DONE: st.global.u32 [%rd41], %r20; st.global.u32 [%rd41+4], %r21; st.global.u32 [%rd41+8], %r22;
             st.global.u32 [%rd41+12], %r23;"
        ),
    );
    let cluster = if shape.cluster { shape.blocks } else { 1 };
    let result = device.launch_clusters(&text, (shape.blocks, cluster, shape.threads), &[global, out, 0, 0]);
    result.map_err(|fault| (fault.kind, format!("seed {seed}: {fault}")))?;
    let words = device.download::<u32>(out, threads * 4);
    Ok(Outcome {
        words: words.chunks(4).map(|words| [words[0], words[1], words[2], words[3]]).collect(),
        memory: device.download(global, 1024),
    })
}

/// An instruction: its opcode with these operands.
pub fn line(text: &str, operands: &str) -> String {
    format!("{text} {operands};")
}

/// The operands of a form with some words exchanged.
pub fn operands(form: &Form, exchanges: &[(&str, &str)]) -> String {
    let words = form.operands.split(", ").map(|word| {
        let found = exchanges.iter().find(|(from, _)| *from == word);
        found.map_or(word, |(_, to)| to)
    });
    words.collect::<Vec<_>>().join(", ")
}

/// In each of some orders, every thread must have these words.
pub fn expect(text: &str, shape: Shape, body: &str, wanted: impl Fn(usize) -> [u32; 4]) -> Checked {
    for seed in 0..6 {
        let outcome = run(seed, shape, &[], body).map_err(|(_, fault)| format!("{text}: {fault}\n{body}"))?;
        for (thread, words) in outcome.words.iter().enumerate() {
            if *words != wanted(thread) {
                return Err(format!(
                    "{text} with seed {seed}, thread {thread}: {words:x?}, not {:x?}\n{body}",
                    wanted(thread)
                ));
            }
        }
    }
    Ok(())
}

/// Without the instruction there is one of these faults in every order: what it does is needed.
pub fn needed(text: &str, shape: Shape, body: &str, kinds: &[FaultKind]) -> Checked {
    for seed in 0..6 {
        match run(seed, shape, &[], body) {
            Err((kind, _)) if kinds.contains(&kind) => {}
            other => return Err(format!("without {text} there is {:?}, not {kinds:?}\n{body}", other.err())),
        }
    }
    Ok(())
}
