//! A wish of many that one background task fulfils: asked by each, answered for all that asked before.

use tokio::sync::watch;

/// Asked and answered so many times.
#[derive(Debug)]
pub(crate) struct Demand {
    asked: watch::Sender<u64>,
    answered: watch::Sender<Answer>,
}

/// What became of the last wish that was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answer {
    number: u64,
    succeeded: bool,
}

impl Demand {
    pub(crate) fn new() -> Demand {
        Demand { asked: watch::Sender::new(0), answered: watch::Sender::new(Answer::default()) }
    }

    /// Asks; the number stands for the wish. A wish that nobody has answered yet is not asked again.
    pub(crate) fn ask_once(&self) -> u64 {
        if self.is_open() { *self.asked.borrow() } else { self.ask() }
    }

    /// Asks; whoever answers it has begun after this.
    pub(crate) fn ask(&self) -> u64 {
        self.asked.send_modify(|asked| *asked += 1);
        *self.asked.borrow()
    }

    /// Returns once this wish was answered: whether it succeeded.
    pub(crate) async fn answer_to(&self, number: u64) -> bool {
        let mut answered = self.answered.subscribe();
        let answer = answered.wait_for(|answer| answer.number >= number).await;
        answer.is_ok_and(|answer| answer.succeeded)
    }

    /// Returns once there is a wish without an answer.
    pub(crate) async fn wanted(&self) {
        let mut asked = self.asked.subscribe();
        // An error means that nobody can ask any more; the sender is a field of this, so there is none.
        let _ = asked.wait_for(|asked| *asked > self.answered.borrow().number).await;
    }

    /// Whether there is a wish without an answer.
    pub(crate) fn is_open(&self) -> bool {
        *self.asked.borrow() > self.answered.borrow().number
    }

    /// The newest wish; to be read before the work that answers it.
    pub(crate) fn newest(&self) -> u64 {
        *self.asked.borrow()
    }

    /// Answers all wishes up to this one.
    pub(crate) fn answer(&self, number: u64, succeeded: bool) {
        self.answered.send_replace(Answer { number, succeeded });
    }

    /// Answers every wish that there is and ever will be: nobody is there any more to fulfil one.
    pub(crate) fn close(&self) {
        self.answer(u64::MAX, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_for_all_who_asked_before_the_work_and_for_nobody_after() {
        let demand = Demand::new();
        let (first, second) = (demand.ask(), demand.ask());
        demand.wanted().await;
        let number = demand.newest();
        let third = demand.ask();
        demand.answer(number, true);
        assert!(demand.answer_to(first).await && demand.answer_to(second).await);
        assert!(demand.is_open(), "the third came after the work had begun");
        assert_eq!(demand.ask_once(), third, "it is not asked again");
        demand.answer(demand.newest(), false);
        assert!(!demand.answer_to(third).await);
        assert!(!demand.is_open());
        demand.close();
        assert!(!demand.answer_to(demand.ask()).await, "nobody is there");
    }
}
