//! What barriers, fences, mbarrier objects, branches and addresses in clusters must do.

use softcuda::fault::FaultKind;
use softcuda::lower::table::Form;

use crate::opcode::{Checked, Opcode};
use crate::script::{ONE, Shape, expect, line, needed, operands, run};

const BLOCK: Shape = Shape { blocks: 1, cluster: false, threads: 64 };
const WARP: Shape = Shape { threads: 32, ..BLOCK };
const PAIR: Shape = Shape { blocks: 2, cluster: true, threads: 32 };

/// What is found of accesses that nothing orders: which of the two comes first decides.
const UNORDERED: [FaultKind; 2] = [FaultKind::Race, FaultKind::Uninitialised];

/// Every thread writes to shared memory, and reads what another wrote.
fn exchange(distance: u32, between: &str) -> String {
    format!(
        "mov.u32 %r30, tile; mad.lo.u32 %r31, %r50, 4, %r30; mul.lo.u32 %r32, %r50, 3; st.shared.u32 [%r31], %r32;
         mov.u32 %r1, 0; {between} xor.b32 %r33, %r50, {distance}; mad.lo.u32 %r31, %r33, 4, %r30;
         ld.shared.u32 %r20, [%r31];"
    )
}

pub fn synchronise(form: &Form, text: &str) -> Checked {
    let op = Opcode::new(text);
    match op.name {
        "bar" | "barrier" if op.has("cluster") => cluster_barrier(text),
        "bar" | "barrier" if op.has("red") => reduction(form, text, &op),
        "bar" | "barrier" if op.has("arrive") => {
            let half = |first: &str| {
                format!(
                    "mov.u32 %r30, tile; setp.lt.u32 %p5, %r50, 32; and.b32 %r33, %r50, 31; mad.lo.u32 %r31, %r33, 4, %r30;
                     @!%p5 bra SECOND; mul.lo.u32 %r32, %r50, 3; st.shared.u32 [%r31], %r32; {first} bra DONE;
                     SECOND: bar.sync 1, 64; ld.shared.u32 %r20, [%r31];"
                )
            };
            let wanted = |thread: usize| [thread.saturating_sub(32) as u32 * 3, 0, 0, 0];
            expect(text, BLOCK, &half(&line(text, form.operands)), wanted)
        }
        "bar" | "barrier" => {
            let (shape, distance) = if op.has("warp") { (WARP, 1) } else { (BLOCK, 32) };
            needed(text, shape, &exchange(distance, ""), &UNORDERED)?;
            let body = exchange(distance, &line(text, form.operands));
            expect(text, shape, &body, |thread| [(thread as u32 ^ distance) * 3, 0, 0, 0])
        }
        "membar" | "fence" => fence(text),
        // These change no value. What a dependent launch may see is told in the documentation of `schedules`.
        "nanosleep" | "griddepcontrol" | "pmevent" => {
            let body = format!("mov.u32 %r1, 20; mov.u32 %r20, 5; {}", line(text, form.operands));
            expect(text, WARP, &body, |_| [5, 0, 0, 0])
        }
        _ => Err(format!("{text} has no oracle")),
    }
}

fn reduction(form: &Form, text: &str, op: &Opcode<'_>) -> Checked {
    let negated = form.operands.contains('!');
    // Which threads' predicates hold: some, all, none, all but one.
    for (test, holds) in [
        ("setp.lt.u32 %p1, %r34, 20;", (|thread: u32| thread < 20) as fn(u32) -> bool),
        ("setp.lt.u32 %p1, %r34, 64;", |_| true),
        ("setp.gt.u32 %p1, %r34, 64;", |_| false),
        ("setp.ne.u32 %p1, %r34, 63;", |thread| thread != 63),
    ] {
        let count = (0..64).filter(|&thread| holds(thread) != negated).count() as u32;
        let (result, wanted) = match () {
            () if op.has("popc") => ("mov.u32 %r20, %r1;", count),
            () if op.has("and") => ("selp.u32 %r20, 1, 0, %p1;", u32::from(count == 64)),
            () => ("selp.u32 %r20, 1, 0, %p1;", u32::from(count > 0)),
        };
        let body = format!("mov.u32 %r34, %r50; {test} mov.pred %p2, %p1; {} {result}", line(text, form.operands));
        expect(text, BLOCK, &body, |_| [wanted, 0, 0, 0])?;
    }
    // It is a barrier too.
    let body = exchange(32, &format!("setp.eq.u32 %p1, %r50, 0; mov.pred %p2, %p1; {}", line(text, form.operands)));
    expect(text, BLOCK, &body, |thread| [(thread as u32 ^ 32) * 3, 0, 0, 0])
}

fn cluster_barrier(text: &str) -> Checked {
    let body = |between: &str| {
        format!(
            "mov.u32 %r30, tile; mad.lo.u32 %r31, %r50, 4, %r30; st.shared.u32 [%r31], %r53; xor.b32 %r32, %r51, 1;
             barrier.cluster.arrive.relaxed; barrier.cluster.wait;
             mapa.shared::cluster.u32 %r33, %r31, %r32; {between} ld.shared::cluster.u32 %r20, [%r33];
             barrier.cluster.arrive; barrier.cluster.wait;"
        )
    };
    // A relaxed arrival orders nothing: a fence does.
    let between = match text {
        _ if text.contains("wait") => format!("barrier.cluster.arrive; {text};"),
        _ if text.contains("relaxed") => format!("fence.acq_rel.cluster; {text}; barrier.cluster.wait;"),
        _ => format!("{text}; barrier.cluster.wait;"),
    };
    needed(text, PAIR, &body(""), &UNORDERED)?;
    expect(text, PAIR, &body(&between), |thread| [thread as u32 ^ 32, 0, 0, 0])
}

/// One thread writes and says so, another waits for that and reads.
fn fence(text: &str) -> Checked {
    let op = Opcode::new(text);
    if op.has("proxy") && (text.ends_with(".async") || text.ends_with("shared::cta")) && !text.contains("restrict") {
        let copy = |fence: &str| {
            format!(
                "mov.u32 %r30, tile; mov.u32 %r31, 77; st.shared.u32 [%r30], %r31; st.shared.u64 [%r30+8], 0;
                 st.shared.u32 [%r30+4], 0; {fence} cp.async.bulk.global.shared::cta.bulk_group [%rd40], [%r30], 16;
                 cp.async.bulk.commit_group; cp.async.bulk.wait_group 0; ld.global.u32 %r20, [%rd40];"
            )
        };
        needed(text, ONE, &copy(""), &[FaultKind::MissingFence])?;
        return expect(text, ONE, &copy(&line(text, "")), |_| [77, 0, 0, 0]);
    }
    if op.has("proxy") || op.has("mbarrier_init") || text.contains("sync_restrict") {
        return expect(text, ONE, &format!("mov.u32 %r20, 5; {text};"), |_| [5, 0, 0, 0]);
    }
    let scope = ["cta", "cluster", "sys"].into_iter().find(|scope| op.has(scope)).unwrap_or("gpu");
    let (shape, test) = match scope {
        "cta" => (BLOCK, "setp.eq.u32 %p5, %r50, 0; setp.eq.u32 %p6, %r50, 32;"),
        _ => (Shape { cluster: scope == "cluster", ..PAIR }, "setp.eq.u32 %p5, %r53, 0; setp.eq.u32 %p6, %r53, 32;"),
    };
    let pass = |release: &str, acquire: &str| {
        format!(
            "{test} @%p5 bra WRITE; @%p6 bra READ; bra DONE;
             WRITE: mov.u32 %r30, 41; st.global.u32 [%rd40], %r30; {release} st.relaxed.{scope}.global.u32 [%rd40+128], 9; bra DONE;
             READ: ld.relaxed.{scope}.global.u32 %r31, [%rd40+128]; setp.ne.u32 %p7, %r31, 9; @%p7 bra READ;
             {acquire} ld.global.u32 %r20, [%rd40];"
        )
    };
    let both = format!("fence.acq_rel.{scope};");
    let own = line(text, "");
    let (release, acquire) = match () {
        () if op.has("acquire") => (&both, &own),
        () if op.has("release") => (&own, &both),
        () => (&own, &own),
    };
    needed(text, shape, &pass("", acquire), &UNORDERED)?;
    needed(text, shape, &pass(release, ""), &UNORDERED)?;
    expect(text, shape, &pass(release, acquire), |thread| [if thread == 32 { 41 } else { 0 }, 0, 0, 0])
}

/// `%p` into a word.
fn word(register: &str, predicate: &str) -> String {
    format!("selp.u32 {register}, 1, 0, {predicate};")
}

pub fn mbarrier(form: &Form, text: &str) -> Checked {
    let op = Opcode::new(text);
    let generic = !text.contains("shared");
    let setup = format!(
        "mov.u64 %rd30, bar; {} mov.u32 %r31, bar; mapa.shared::cluster.u32 %r30, %r31, 0;",
        if generic { "cvta.shared.u64 %rd30, %rd30;" } else { "" }
    );
    let object = if form.operands.contains("[%r1]") { "[%r30]" } else { "[%rd30]" };
    let own = line(text, &operands(form, &[("[%rd1]", object), ("[%rd2]", object), ("[%r1]", object)]));
    let init = |count: u32| format!("{setup} mbarrier.init.shared.b64 [bar], {count};");
    let arrive = "mbarrier.arrive.shared.b64 %rd10, [bar];";
    let complete = "mbarrier.complete_tx.shared::cta.b64 [bar], 16;";
    // Whether the phase with a parity is complete.
    let test = |register: &str, parity: u32| {
        format!("mbarrier.test_wait.parity.shared.b64 %p3, [bar], {parity}; {}", word(register, "%p3"))
    };
    let (body, wanted) = match () {
        () if op.has("init") => (
            format!(
                "{setup} mov.u32 %r1, 3; {own} {arrive} mbarrier.pending_count.b64 %r20, %rd10; {arrive}
                 mbarrier.pending_count.b64 %r21, %rd10; {} {arrive} {}",
                test("%r22", 0),
                test("%r23", 0)
            ),
            [3, 2, 0, 1],
        ),
        // The bytes are the program's again.
        () if op.has("inval") => {
            (format!("{} {own} st.shared.u64 [bar], 7; ld.shared.u32 %r20, [bar];", init(1)), [7, 0, 0, 0])
        }
        () if op.has("pending_count") => {
            (format!("{} mbarrier.arrive.shared.b64 %rd1, [bar], 2; {own} mov.u32 %r20, %r1;", init(5)), [5, 0, 0, 0])
        }
        () if op.has("arrive") || op.has("arrive_drop") => {
            // Of a phase that two arrivals complete, and that bytes hold open where there are some.
            let transaction = op.has("expect_tx");
            let amount = if transaction { 16 } else { 1 };
            let state = form.operands.starts_with("%rd1");
            let count = if state { "mbarrier.pending_count.b64 %r20, %rd1;" } else { "mov.u32 %r20, 2;" };
            let middle = if transaction { format!("{} {complete}", test("%r21", 0)) } else { String::new() };
            let body = format!(
                "{} mov.u32 %r1, {amount}; mov.u32 %r2, {amount}; {own} {count} {arrive} {middle} {} {arrive} {}",
                init(2),
                test("%r22", 0),
                test("%r23", 1)
            );
            // One that drops out is not waited for in the next phase.
            (body, [2, 0, 1, u32::from(op.has("arrive_drop"))])
        }
        () if op.has("expect_tx") => (
            format!("{} mov.u32 %r1, 16; {own} {arrive} {} {complete} {}", init(1), test("%r20", 0), test("%r21", 0)),
            [0, 1, 0, 0],
        ),
        () if op.has("complete_tx") => (
            format!(
                "{} mov.u32 %r1, 16; mbarrier.expect_tx.shared::cta.b64 [bar], 16; {arrive} {} {own} {}",
                init(1),
                test("%r20", 0),
                test("%r21", 0)
            ),
            [0, 1, 0, 0],
        ),
        () if op.has("parity") => {
            // The phase before the first counts as complete.
            let both = |first: &str, second: &str| {
                format!(
                    "mov.u32 %r1, 1; mov.u32 %r2, 0; {own} {} mov.u32 %r1, 0; {own} {}",
                    word(first, "%p1"),
                    word(second, "%p1")
                )
            };
            let body = format!("{} {} {arrive} {}", init(1), both("%r20", "%r21"), both("%r22", "%r23"));
            (body, [1, 0, 0, 1])
        }
        // With the state of an arrival.
        () => (
            format!(
                "{} mov.u32 %r1, 0; mbarrier.arrive.shared.b64 %rd2, [bar]; {own} {} {arrive} {own} {}",
                init(2),
                word("%r20", "%p1"),
                word("%r21", "%p1")
            ),
            [0, 1, 0, 0],
        ),
    };
    expect(text, ONE, &body, |_| wanted)
}

pub fn cluster_address(form: &Form, text: &str) -> Checked {
    let begin = "mov.u32 %r30, tile; add.u32 %r31, %r51, 70; st.shared.u32 [%r30], %r31; mov.u64 %rd30, tile;
        barrier.cluster.arrive; barrier.cluster.wait; cvta.shared.u64 %rd31, %rd30; mov.u32 %r9, 1;";
    let end = "barrier.cluster.arrive; barrier.cluster.wait;";
    let shape = Shape { threads: 1, ..PAIR };
    let name = text.split('.').next().unwrap();
    // `mapa` to block 1 and a load from there; or what `getctarank` says of own and of mapped addresses.
    let body = match (name, form.operands.starts_with("%r")) {
        ("mapa", true) => format!("{text} %rd1, %rd31, 1; ld.u32 %r20, [%rd1];"),
        ("mapa", _) if text.ends_with("u32") => format!("{text} %r1, %r30, %r9; ld.shared::cluster.u32 %r20, [%r1];"),
        ("mapa", _) => format!("{text} %rd1, %rd30, %r9; ld.shared::cluster.u32 %r20, [%rd1];"),
        _ => {
            let (map, mapped, own) = match text {
                "getctarank.u64" => ("mapa.u64 %rd1, %rd31, 1;", "%rd1", "%rd31"),
                _ if text.ends_with("u32") => ("mapa.shared::cluster.u32 %r1, %r30, 1;", "%r1", "%r30"),
                _ => ("mapa.shared::cluster.u64 %rd1, %rd30, 1;", "%rd1", "%rd30"),
            };
            format!("{map} {text} %r20, {mapped}; {text} %r21, {own};")
        }
    };
    let mapa = name == "mapa";
    expect(
        text,
        shape,
        &format!("{begin} {body} {end}"),
        |block| {
            if mapa { [71, 0, 0, 0] } else { [1, block as u32, 0, 0] }
        },
    )
}

pub fn branch(form: &Form, text: &str) -> Checked {
    let op = Opcode::new(text);
    let own = line(text, form.operands);
    match op.name {
        "bra" => {
            let body = format!("mov.u32 %r20, 1; {own} mov.u32 %r20, 2; LABEL: mov.u32 %r21, 3;");
            expect(text, WARP, &body, |_| [1, 3, 0, 0])
        }
        "brx" => {
            // With `.uni` all lanes go the same way, without each its own.
            let index = if op.has("uni") { "mov.u32 %r1, 1;" } else { "rem.u32 %r1, %r50, 3;" };
            let body = format!(
                "TABLE: .branchtargets A, B, C; {index} {own}
                 A: mov.u32 %r20, 10; bra END; B: mov.u32 %r20, 20; bra END; C: mov.u32 %r20, 30; END:"
            );
            let uniform = op.has("uni");
            expect(text, WARP, &body, |thread| [if uniform { 20 } else { 10 * (thread as u32 % 3 + 1) }, 0, 0, 0])
        }
        // What comes after is not done.
        "ret" | "exit" => {
            let body = format!("mov.u32 %r30, 8; st.global.u32 [%rd41], %r30; {own} st.global.u32 [%rd41], 9;");
            expect(text, WARP, &body, |_| [8, 0, 0, 0])
        }
        // Without a debugger a breakpoint stops the kernel as well.
        "trap" | "brkpt" => match run(0, ONE, &[], &own) {
            Err((FaultKind::Trap, _)) => Ok(()),
            other => Err(format!("{text} gives {:?}", other.err())),
        },
        "call" => {
            let body = format!(
                "mov.u64 %rd1, function; add.u32 %r2, %r50, 4; {own}
                 prototype: .callprototype (.reg .b32 _) _ (.reg .b32 _); mov.u32 %r20, %r1;"
            );
            expect(text, WARP, &body, |thread| [2 * (thread as u32 + 4), 0, 0, 0])
        }
        _ => Err(format!("{text} has no oracle")),
    }
}
