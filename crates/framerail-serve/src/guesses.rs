//! Slows down guessing of tokens.

use std::{future::Future, time::Duration};

use tokio::{sync::Mutex, time::sleep};

/// Delay before a wrong token is answered.
const PAUSE: Duration = Duration::from_millis(300);

/// Serialises requests with wrong tokens: many connections guess no faster than one.
#[derive(Default)]
pub(crate) struct Guesses {
    turn: Mutex<()>,
}

impl Guesses {
    /// Waits until this wrong token may be answered.
    pub(crate) async fn hold_up(&self) {
        self.in_turn(|| sleep(PAUSE)).await;
    }

    /// Each pause starts after the previous one has ended.
    async fn in_turn<F: Future<Output = ()>>(&self, pause: impl FnOnce() -> F) {
        let _turn = self.turn.lock().await;
        pause().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn wrong_tokens_are_answered_one_after_another() {
        let (guesses, begun) = (Guesses::default(), RefCell::new(Vec::new()));
        let (end_of_first, first_pause) = oneshot::channel::<()>();
        let guess = |number: u32, pause: Option<oneshot::Receiver<()>>| {
            let (guesses, begun) = (&guesses, &begun);
            async move {
                let pause = || {
                    begun.borrow_mut().push(number);
                    async {
                        if let Some(pause) = pause {
                            let _ = pause.await;
                        }
                    }
                };
                guesses.in_turn(pause).await;
            }
        };
        let (mut first, mut second) = (pin!(guess(1, Some(first_pause))), pin!(guess(2, None)));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(first.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(second.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(*begun.borrow(), [1], "the second waits for its turn");
        end_of_first.send(()).expect("the first waits");
        assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(()));
        assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(()));
        assert_eq!(*begun.borrow(), [1, 2]);
    }
}
