//! Device-side `assert`.

use crate::fault::FaultKind;
use crate::lower::op::Reg;

use super::print::MAX_TEXT;
use super::state::{Problem, Warp, Worker};

impl Worker<'_> {
    fn text(&self, address: u64) -> String {
        let mut bytes = Vec::new();
        let mut byte = [0];
        for offset in 0..MAX_TEXT {
            let read = self.launch.memory.read(address.wrapping_add(offset), &mut byte);
            if read.is_err() || byte[0] == 0 {
                break;
            }
            bytes.push(byte[0]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The fault of a failed assertion: registers of its message, file, line and function.
    #[cold]
    pub(super) fn assertion(&self, warp: &Warp, parts: [Reg; 4], lanes: u32) -> Box<Problem> {
        let lane = lanes.trailing_zeros() as usize;
        let [message, file, line, function] = parts;
        let text = |reg: Reg| self.text(warp.r.get64(reg)[lane]);
        let detail = format!(
            "{}:{}: {}: assertion `{}` failed",
            text(file),
            warp.r.get32(line)[lane],
            text(function),
            text(message)
        );
        Problem::new(FaultKind::Assertion, lane, 0, detail)
    }
}
