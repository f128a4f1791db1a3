//! What moves, and conversions of addresses, must give.

use softcuda::lower::table::Form;

use crate::opcode::{Checked, Oracle, Ty, Want, check, inputs};
use crate::ptx_support::{Device, evaluate, kernel_with};
use crate::script::{ONE, Shape, expect};

pub fn mov(form: &Form, text: &str) -> Checked {
    let rows = inputs(Ty::parse("b64").unwrap(), 300);
    let halves = |x: u64| [0, 16, 32, 48].map(|shift| x >> shift & 0xffff);
    // Parts put together another way round, so that each is seen to be where it should.
    type Function = fn([u64; 4], u64, u64) -> u64;
    let (body, wanted): (String, Function) = match form.operands {
        "T, T" => {
            let oracle: Oracle = Box::new(|x| Want::Bits(x[0]));
            return check(form, text, &rows, &oracle);
        }
        "{%h1, %h2}, T" => {
            (format!(".reg .b16 %x<2>; {text} {{%x0, %x1}}, %a32; mov.b32 %d32, {{%x1, %x0}}; WIDEN32"), |h, _, _| {
                h[1] | h[0] << 16
            })
        }
        "T, {%h1, %h2}" => (format!("{text} %d32, {{%b16, %a16}}; WIDEN32"), |h, b, _| b & 0xffff | h[0] << 16),
        "{%r1, _}, T" => (format!("{text} {{%r1, _}}, %a; cvt.u64.u32 %d, %r1;"), |h, _, _| h[0] | h[1] << 16),
        "T, {%r1, %r2}" => {
            (format!("{text} %d, {{%b32, %a32}};"), |h, b, _| b & 0xffff_ffff | (h[0] | h[1] << 16) << 32)
        }
        "T, {%h1, %h2, %h3, %h4}" => (format!("{text} %d, {{%c16, %a16, %b16, %a16}};"), |h, b, c| {
            c & 0xffff | h[0] << 16 | (b & 0xffff) << 32 | h[0] << 48
        }),
        "T, %tid.x" => {
            return expect(text, Shape { threads: 70, ..ONE }, &format!("{text} %r20, %tid.x;"), |thread| {
                [thread as u32, 0, 0, 0]
            });
        }
        // It goes on.
        "T, %clock64" => {
            let body = format!(
                "{text} %rd1, %clock64; nanosleep.u32 1; {text} %rd2, %clock64; setp.gt.u64 %p1, %rd2, %rd1;
                 selp.u32 %r20, 1, 0, %p1;"
            );
            return expect(text, ONE, &body, |_| [1, 0, 0, 0]);
        }
        other => return Err(format!("{text} {other} has no oracle")),
    };
    for (found, &[a, b, c]) in evaluate(&body, &rows).into_iter().zip(&rows) {
        let wanted = wanted(halves(a), b, c);
        if found != wanted {
            return Err(format!("{body} of {a:#x}, {b:#x}, {c:#x} gives {found:#x}, not {wanted:#x}"));
        }
    }
    Ok(())
}

/// The space that a modifier names.
fn space(text: &str) -> &'static str {
    let spaces = ["global", "shared", "local", "const", "param"];
    spaces.into_iter().find(|space| text.contains(space)).unwrap()
}

/// Something with a value of its own in each space, and its address in that space in `%rd2`.
const DECLARATIONS: &str = ".global .align 4 .u32 in_global = 101; .const .align 4 .u32 in_const = 104;
    .shared .align 4 .u32 in_shared;";
const PLACES: [(&str, &str, u32); 5] = [
    ("global", "mov.u64 %rd2, in_global;", 101),
    ("shared", "mov.u64 %rd2, in_shared; st.shared.u32 [%rd2], 102;", 102),
    ("local", "mov.u64 %rd2, in_local; st.local.u32 [%rd2], 103;", 103),
    ("const", "mov.u64 %rd2, in_const;", 104),
    ("param", "mov.u64 %rd2, p1;", 105),
];

fn evaluated(body: &str) -> Result<u32, String> {
    let device = Device::new();
    let out = device.upload(&[0u32]);
    let body = format!(".local .align 4 .b8 in_local[8]; {body} ld.param.u64 %rd9, [p0]; st.global.u32 [%rd9], %r1;");
    let result = device.launch(&kernel_with(DECLARATIONS, &body), 1, 1, &[out, 105, 0, 0]);
    result.map_err(|fault| fault.to_string())?;
    Ok(device.download::<u32>(out, 1)[0])
}

/// A load by the address that comes out finds the value that is there, and the way back is the inverse.
pub fn cvta(_: &Form, text: &str) -> Checked {
    let name = space(text);
    let (_, place, value) = PLACES.iter().find(|place| place.0 == name).unwrap();
    let body = match text.contains(".to.") {
        false => format!("{place} {text} %rd3, %rd2; ld.u32 %r1, [%rd3];"),
        true => format!("{place} cvta.{name}.u64 %rd3, %rd2; {text} %rd3, %rd3; ld.{name}.u32 %r1, [%rd3];"),
    };
    match evaluated(&body).map_err(|fault| format!("{text}: {fault}"))? {
        found if found == *value => Ok(()),
        found => Err(format!("{text}: {found}, not {value}")),
    }
}

/// True of a generic address into the space, false of those into others.
pub fn isspacep(_: &Form, text: &str) -> Checked {
    for (name, place, _) in PLACES {
        let body = format!("{place} cvta.{name}.u64 %rd1, %rd2; {text} %p1, %rd1; selp.u32 %r1, 1, 0, %p1;");
        // "isspacep.global returns 1 for kernel function parameters as the .param window is contained within the
        // .global window."
        let wanted = u32::from(name == space(text) || (name == "param" && space(text) == "global"));
        let found = evaluated(&body).map_err(|fault| format!("{text}: {fault}"))?;
        if found != wanted {
            return Err(format!("{text} of an address in {name} memory is {found}"));
        }
    }
    Ok(())
}
