//! Makes a failing script shorter for as long as it still fails.

use super::script::Step;

/// Runs that shrinking may take.
const RUNS: usize = 3000;

/// The shortest script found that still fails: pieces are left out, ever smaller ones.
pub(crate) fn shrink(script: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut script = script;
    let mut runs = 0;
    let mut piece = script.len().div_ceil(2);
    while piece > 0 && runs < RUNS {
        let mut at = 0;
        let mut shorter = false;
        while at < script.len() && runs < RUNS {
            let end = (at + piece).min(script.len());
            let rest: Vec<Step> = script[..at].iter().chain(&script[end..]).copied().collect();
            runs += 1;
            if fails(&rest) {
                script = rest;
                shorter = true;
            } else {
                at = end;
            }
        }
        if !shorter || piece > 1 {
            piece = if shorter { piece.min(script.len()) } else { piece / 2 };
        }
    }
    script
}
