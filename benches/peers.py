#!/usr/bin/env python3
"""The same loss elsewhere: PyTorch eager, torch.compile, and a Triton kernel of the same fusion.

Times the shapes of a bench run (target/bench/loss.json, by `cargo bench`) and joins both into one table:

    python3 benches/peers.py --ours target/bench/loss.json          # on the GPU that the run was made on
    python3 benches/peers.py --shapes 64x1024,8x4096 --device cpu   # eager and torch.compile, without any run of ours
    python3 benches/peers.py --check --device cpu                   # only whether all compute the same

Every peer is first held against the formula in f64. On CUDA the habits are those of `cargo bench`: as many buffers in
turn as exceed the L2 cache three times, CUDA graphs of the same number of launches, time by events, the median. GB/s
count the bytes that must move, so that a peer that moves more has a lower rate.
"""

import argparse
import json
import math
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

try:
    import torch
except ImportError:
    sys.exit("peers.py needs PyTorch, and this Python has none: install `torch` (its CUDA build for --device cuda)")
try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "u8": torch.uint8}
WARM_UP, MEASUREMENT, LEAST_TURNS = 0.2, 0.1, 20
# Time of one call on a CPU grows with the problem, and CPUs are not the point.
CPU_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class Problem:
    rows: int
    cols: int
    scores: str
    labels: str
    mode: str
    buffers: int = 2
    launches: int = 20

    def key(self):
        return (self.rows, self.cols, self.scores, self.labels, self.mode)

    def bytes(self):
        size = DTYPES[self.scores].itemsize
        per_element = size + DTYPES[self.labels].itemsize + (0 if self.mode == "forward" else size)
        return self.rows * self.cols * per_element + 4 * self.rows

    def __str__(self):
        return f"{self.rows} x {self.cols} {self.scores} {self.labels} {self.mode}"


def loss_of(scores, labels):
    """Row losses as PyTorch users write them, in f32 as autocast would have it."""
    s = scores.float()
    if labels.dtype == torch.uint8:
        positive = torch.where(labels != 0, -s, -math.inf)
        negative = torch.where(labels != 0, -math.inf, s)
    else:
        t = labels.float()
        positive, negative = torch.log(t) - s, torch.log1p(-t) + s
    zero = torch.zeros_like(s[:, :1])
    return torch.logsumexp(torch.cat([zero, positive], 1), 1) + torch.logsumexp(torch.cat([zero, negative], 1), 1)


def with_autograd(function):
    """A peer from a differentiable loss."""

    def run(scores, labels, mode):
        if mode == "forward":
            with torch.no_grad():
                return function(scores, labels), None
        loss = function(scores, labels)
        return loss.detach(), torch.autograd.grad(loss.sum(), scores)[0]

    return run


if triton is not None:

    @triton.jit
    def fetch(scores, labels, column, cols):
        """Scores and labels in f32. Beyond the row the score is 0, which raises no maximum."""
        valid = column < cols
        s = tl.load(scores + column, mask=valid, other=0.0).to(tl.float32)
        t = tl.load(labels + column, mask=valid, other=0).to(tl.float32)
        return s, t, valid

    @triton.jit
    def terms(s, t, valid, max_p, max_q):
        """What the elements add to P and Q, by e^-max."""
        p = tl.where(valid, t * tl.exp(-s - max_p), 0.0)
        q = tl.where(valid, (1.0 - t) * tl.exp(s - max_q), 0.0)
        return p, q

    @triton.jit
    def zlpr_kernel(
        scores, labels, gradient, loss, cols, BLOCK: tl.constexpr, WHOLE: tl.constexpr, GRADIENT: tl.constexpr
    ):
        """One program per row. P and Q are kept as a maximum, at least 0 for the "1 +", and a sum beside it."""
        row = tl.program_id(0).to(tl.int64)
        scores += row * cols
        labels += row * cols
        gradient += row * cols
        column = tl.arange(0, BLOCK)
        max_p, max_q, sum_p, sum_q = 0.0, 0.0, 1.0, 1.0
        if WHOLE:
            s, t, valid = fetch(scores, labels, column, cols)
            max_p, max_q = tl.maximum(max_p, tl.max(-s)), tl.maximum(max_q, tl.max(s))
            p, q = terms(s, t, valid, max_p, max_q)
            sum_p, sum_q = tl.exp(-max_p) + tl.sum(p), tl.exp(-max_q) + tl.sum(q)
            if GRADIENT:
                g = q / sum_q - p / sum_p
                tl.store(gradient + column, g.to(gradient.dtype.element_ty), mask=valid)
        else:
            for start in range(0, cols, BLOCK):
                s, t, valid = fetch(scores, labels, start + column, cols)
                new_p, new_q = tl.maximum(max_p, tl.max(-s)), tl.maximum(max_q, tl.max(s))
                p, q = terms(s, t, valid, new_p, new_q)
                sum_p = sum_p * tl.exp(max_p - new_p) + tl.sum(p)
                sum_q = sum_q * tl.exp(max_q - new_q) + tl.sum(q)
                max_p, max_q = new_p, new_q
            if GRADIENT:
                for start in range(0, cols, BLOCK):
                    s, t, valid = fetch(scores, labels, start + column, cols)
                    p, q = terms(s, t, valid, max_p, max_q)
                    g = q / sum_q - p / sum_p
                    tl.store(gradient + start + column, g.to(gradient.dtype.element_ty), mask=valid)
        tl.store(loss + row, max_p + tl.log(sum_p) + max_q + tl.log(sum_q))

    # Liger's choices for its fused loss: blocks of up to 32,768 columns.
    MAX_BLOCK = 32768

    def triton_peer(scores, labels, mode):
        rows, cols = scores.shape
        block = min(triton.next_power_of_2(cols), MAX_BLOCK)
        warps = 32 if block >= 32768 else 16 if block >= 8192 else 8 if block >= 2048 else 4
        loss = torch.empty(rows, dtype=torch.float32, device=scores.device)
        scores = scores.detach()
        # Never written in forward mode.
        gradient = torch.empty_like(scores) if mode == "gradient" else scores
        zlpr_kernel[(rows,)](
            scores, labels, gradient, loss, cols,
            BLOCK=block, WHOLE=cols <= block, GRADIENT=mode != "forward", num_warps=warps,
        )  # fmt: skip
        return loss, gradient


def peers(device, interpreted):
    """Name to function(scores, labels, mode) -> (loss, gradient)."""
    found = {
        "eager": with_autograd(loss_of),
        "compile": with_autograd(torch.compile(loss_of, dynamic=False, fullgraph=True)),
    }
    if triton is None:
        print("triton is absent: its kernel is left out")
    elif device == "cuda" or interpreted:
        found["triton"] = triton_peer
    return found


def supports(name, mode):
    # Autograd makes a gradient of its own: there is no in place.
    return mode != "in place" or name == "triton"


def make(problem, device, seed):
    """Scores of standard deviation 3, one label in 32 set; soft labels are those, smoothed."""
    generator = torch.Generator().manual_seed(seed)
    shape = (problem.rows, problem.cols)
    # Repeated, as in `cargo bench`: no peer's work depends on the values.
    count, period = problem.rows * problem.cols, 1 << 20

    def spread(values):
        return values.repeat(-(-count // values.numel()))[:count].view(shape)

    drawn = min(count, period)
    scores = (3 * torch.randn(drawn, generator=generator)).to(DTYPES[problem.scores])
    hard = torch.rand(drawn, generator=generator) < 1 / 32
    labels = hard.to(torch.uint8) if problem.labels == "u8" else (0.05 + 0.9 * hard.float()).to(DTYPES[problem.labels])
    scores, labels = spread(scores.to(device)), spread(labels.to(device))
    return scores.contiguous().requires_grad_(problem.mode == "gradient"), labels.contiguous()


def formula(scores, labels):
    """Loss, gradient, and the sizes of the gradient's two terms, in f64 with both sums shifted by their maximum."""
    s, t = scores.detach().double().cpu(), labels.double().cpu()
    shift_p, shift_q = (-s).amax(1, True).clamp(min=0), s.amax(1, True).clamp(min=0)
    p, q = t * torch.exp(-s - shift_p), (1 - t) * torch.exp(s - shift_q)
    sum_p, sum_q = torch.exp(-shift_p) + p.sum(1, True), torch.exp(-shift_q) + q.sum(1, True)
    loss = (shift_p + torch.log(sum_p) + shift_q + torch.log(sum_q)).squeeze(1)
    return loss, q / sum_q - p / sum_p, q / sum_q + p / sum_p


def check(found, device, pairs):
    """Every peer against the formula; what is wrong."""
    wrong = []
    # The longest is more than one block of the Triton kernel. Compilation takes seconds, so that it gets one shape.
    shapes = [(3, 1001), (2, 54), (1, 40_000)]
    for name, peer in found.items():
        for scores_type, labels_type in pairs:
            torch._dynamo.reset()
            for rows, cols in shapes[:1] if name == "compile" else shapes:
                for mode in ["gradient", "forward", "in place"]:
                    if not supports(name, mode):
                        continue
                    problem = Problem(rows, cols, scores_type, labels_type, mode)
                    scores, labels = make(problem, device, 1)
                    loss, gradient, terms = formula(scores, labels)
                    got_loss, got_gradient = peer(scores, labels, mode)
                    off = (got_loss.double().cpu() - loss).abs()
                    good = bool((off <= 1e-5 * loss + 1e-6).all())
                    if mode != "forward":
                        info = torch.finfo(DTYPES[scores_type])
                        allowed = 1e-4 * terms + info.eps * gradient.abs() + info.smallest_normal * info.eps
                        good &= bool(((got_gradient.double().cpu() - gradient).abs() <= allowed).all())
                    if not good:
                        wrong.append(f"{name}: {problem}")
        print(f"{name}: " + ("wrong" if any(w.startswith(f"{name}:") for w in wrong) else "computes the formula"))
    return wrong


def quantiles(times):
    times = sorted(times)
    at = lambda share: times[round(share * (len(times) - 1))]
    return {"p20": at(0.2), "median": at(0.5), "p80": at(0.8)}


def until(seconds, turns, turn):
    """Turns until both so many and so long were taken."""
    taken, start = [], time.perf_counter()
    while len(taken) < turns or time.perf_counter() - start < seconds:
        taken.append(turn())
    return taken


def time_cpu(peer, problem):
    scores, labels = make(problem, "cpu", 0)

    def turn():
        start = time.perf_counter()
        peer(scores, labels, problem.mode)
        return time.perf_counter() - start

    turn()  # compiles
    until(WARM_UP, 1, turn)
    return quantiles(until(MEASUREMENT, LEAST_TURNS, turn))


def time_cuda(peer, problem):
    sets = [make(problem, "cuda", 0) for _ in range(problem.buffers)]
    launch = lambda index: peer(*sets[index % len(sets)], problem.mode)
    # Everything that compiles or allocates for the first time must have done so before the capture.
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for index in range(3):
            launch(index)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(problem.launches):
            launch(index)

    def turn():
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        graph.replay()  # untimed: the host enqueues meanwhile
        events[0].record()
        graph.replay()
        events[1].record()
        events[1].synchronize()
        return events[0].elapsed_time(events[1]) / 1e3 / problem.launches

    until(WARM_UP, 1, turn)
    return quantiles(until(MEASUREMENT, LEAST_TURNS, turn))


def measure(found, problems, device):
    lines = []
    for problem in problems:
        # Each shape is compiled for itself, as in a training run with that shape.
        torch._dynamo.reset()
        for name, peer in found.items():
            if not supports(name, problem.mode):
                continue
            line = {"peer": name, **asdict(problem), "bytes": problem.bytes()}
            try:
                seconds = (time_cuda if device == "cuda" else time_cpu)(peer, problem)
                line |= {"seconds": seconds, "gbps": problem.bytes() / seconds["median"] / 1e9}
                print(f"{problem}: {name} {line['gbps']:.3g} GB/s", flush=True)
            except Exception as error:  # The others go on; whatever it was is told in the table and at the end.
                line["error"] = str(error).splitlines()[0] if str(error) else type(error).__name__
                print(f"{problem}: {name} failed: {error}", file=sys.stderr, flush=True)
            lines.append(line)
            if device == "cuda":
                torch.cuda.empty_cache()
    return lines


def join(ours, lines, comparable):
    """One row per problem: our line, and each peer's with how many times its time ours takes."""
    table = {}
    for line in ours:
        table[(line["rows"], line["cols"], line["scores"], line["labels"], line["mode"])] = {"ours": line, "peers": {}}
    for line in lines:
        key = (line["rows"], line["cols"], line["scores"], line["labels"], line["mode"])
        row = table.setdefault(key, {"ours": None, "peers": {}})
        mine = row["ours"] and row["ours"]["gbps"] and row["ours"]["seconds"]["median"]
        ratio = line["seconds"]["median"] / mine if comparable and mine and "seconds" in line else None
        row["peers"][line["peer"]] = {**line, "times_ours": ratio}
    return [row for row in table.values() if row["peers"]]


def markdown(rows, names, title):
    text = [f"# {title}", "", "GB/s of the bytes that must move; in brackets, how many times our time it takes.", ""]
    text += [f"| Shape | Scores, labels | Mode | zlpr | {' | '.join(names)} |", "|---|---|---|---" + "|---" * len(names) + "|"]
    for row in rows:
        any_line = next(iter(row["peers"].values()))
        ours = row["ours"]
        cells = [f"{ours['gbps']:.3g} ({ours['regime']})" if ours and ours["gbps"] else "-"]
        for name in names:
            line = row["peers"].get(name)
            if line is None:
                cells.append("-")
            elif "error" in line:
                cells.append("failed: " + line["error"][:80].replace("|", "/"))
            else:
                ratio = f" ({line['times_ours']:.2f})" if line["times_ours"] else ""
                cells.append(f"{line['gbps']:.3g}{ratio}")
        kinds = f"{any_line['scores']}, {any_line['labels']}"
        text.append(f"| {any_line['rows']} x {any_line['cols']} | {kinds} | {any_line['mode']} | {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path, help="JSON of a bench run; its shapes are timed and its lines joined")
    parser.add_argument("--shapes", help="instead, shapes such as 64x1024,8x4096")
    parser.add_argument("--device", choices=["cuda", "cpu"], help="default: CUDA if there is a device")
    parser.add_argument("--scores", default="f16,bf16,f32", help="types of the scores, default %(default)s")
    parser.add_argument("--modes", default="gradient,forward,in place", help="default %(default)s")
    parser.add_argument("--check", action="store_true", help="time nothing")
    parser.add_argument("--out", type=Path, help="folder of peers.json and peers.md; default: that of the bench run")
    arguments = parser.parse_args()
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("this PyTorch finds no CUDA device: --device cpu runs eager and torch.compile on the CPU")
    types, modes = arguments.scores.split(","), arguments.modes.split(",")
    pairs = [(scores, labels) for scores in types for labels in (scores, "u8")]

    # On a CPU only Triton's interpreter runs its kernel: to check it, not to time it.
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    found = peers(device, interpreted and arguments.check)
    if wrong := check(found, device, pairs):
        sys.exit("not what the formula gives:\n  " + "\n  ".join(wrong))
    if arguments.check:
        return

    run = json.loads(arguments.ours.read_text()) if arguments.ours else {"lines": [], "virtual": True, "device": {}}
    ours = [line for line in run["lines"] if line["chosen"]]
    if arguments.shapes:
        shapes = [tuple(int(n) for n in shape.split("x")) for shape in arguments.shapes.split(",")]
        problems = [Problem(*shape, *pair, mode) for pair in pairs for mode in modes for shape in shapes]
        if device == "cuda":
            cache = torch.cuda.get_device_properties(0).L2_cache_size
            count = lambda problem: max(2, math.ceil(3 * cache / problem.bytes()))
            problems = [Problem(*problem.key(), count(problem), max(20, count(problem))) for problem in problems]
    elif ours:
        # One problem may be several workloads'.
        problems = {
            Problem(*(line[name] for name in ["rows", "cols", "scores", "labels", "mode"]), line["buffers"],
                    line["launches_per_graph"]): None
            for line in ours if line["scores"] in types and line["mode"] in modes
        }  # fmt: skip
    else:
        sys.exit("nothing to time: give --ours FILE (by `cargo bench`) or --shapes")
    if device == "cpu":
        problems = [problem for problem in problems if problem.rows * problem.cols <= CPU_ELEMENTS]
    if not problems:
        sys.exit("no problem is left of these shapes, types and modes")

    lines = measure(found, problems, device)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    comparable = device == "cuda" and not run["virtual"] and run["device"]["name"] == name
    title = f"PyTorch {torch.__version__}" + (f", Triton {triton.__version__}" if triton else "") + f", on {name}"
    if not comparable:
        title += "; no times of ours on this device"
    rows = join(ours, lines, comparable)
    out = arguments.out or (arguments.ours.parent if arguments.ours else Path("."))
    out.mkdir(parents=True, exist_ok=True)
    (out / "peers.json").write_text(json.dumps({"title": title, "device": name, "rows": rows}, indent=1) + "\n")
    (out / "peers.md").write_text(markdown(rows, list(found), title))
    print(f"{len(rows)} rows: {out / 'peers.md'}, {out / 'peers.json'}")
    if failed := sum("error" in line for line in lines):
        sys.exit(f"{failed} of {len(lines)} measurements failed")


if __name__ == "__main__":
    main()
