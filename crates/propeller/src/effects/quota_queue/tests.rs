use super::*;

/// A namespace in which the API server takes `room` pods at once.
struct Scene {
    waiting: QuotaQueue,
    clock: Clock,
    calls: Arc<PermitInbox>,
    room: usize,
    asked: usize,
    running: BTreeSet<String>,
}

const NAMESPACE: &str = "ns";

impl Scene {
    fn new(room: usize) -> Self {
        let clock = Clock::simulated(Timestamp::from_second(1_767_225_600).unwrap());
        Self {
            waiting: QuotaQueue::new(BackoffConfig::default(), clock),
            clock,
            calls: Arc::default(),
            room,
            asked: 0,
            running: BTreeSet::new(),
        }
    }

    /// Tries a pod; whether it runs.
    fn launch(&mut self, pod: &str, cpu: i128) -> bool {
        let demands = Amounts::from([("limits.cpu".to_owned(), cpu)]);
        let calls = self.calls.clone();
        let request = Request {
            namespace: NAMESPACE,
            pod,
            demands: &demands,
            inbox: &calls,
        };
        let Admission::Try(permit) = self.waiting.admit(request) else {
            return false;
        };
        self.asked += 1;
        if self.running.len() < self.room {
            self.running.insert(pod.to_owned());
            permit.created();
            return true;
        }
        permit.refused(request, demands.clone());
        false
    }

    /// Everybody who is called tries; how many did.
    fn answer_calls(&mut self) -> usize {
        let mut answered = 0;
        loop {
            let called = self.calls.take();
            if called.is_empty() {
                return answered;
            }
            for pod in called {
                self.launch(&pod, 1);
                answered += 1;
            }
        }
    }

    /// Time passes.
    async fn pass(&mut self, seconds: u64) {
        let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
        loop {
            let call_in_time = self.waiting.clone().call_in_time();
            let called = tokio::select! {
                biased;
                () = self.calls.wait() => true,
                () = call_in_time => true,
                () = tokio::time::sleep_until(end) => false,
            };
            self.answer_calls();
            if !called {
                return;
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.waiting.lock().keys().cloned().collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_without_room_costs_one_request_a_wait() {
    let mut scene = Scene::new(0);
    for index in 0..100 {
        scene.launch(&format!("pod-{index:03}"), 1);
    }
    assert_eq!(scene.asked, 1, "the others know from the first one");
    // After 1, 3, 7, 15 and 31 seconds, and then every 20.
    scene.pass(60).await;
    assert_eq!(scene.asked, 7);
}

#[tokio::test(start_paused = true)]
async fn who_waits_comes_when_pods_end_and_asks_no_more_often_than_needed() {
    let mut scene = Scene::new(10);
    for index in 0..100 {
        scene.launch(&format!("pod-{index:03}"), 1);
    }
    let mut ended = 0;
    while let Some(pod) = scene.running.pop_first() {
        ended += 1;
        scene.waiting.freed(NAMESPACE);
        scene.answer_calls();
        assert!(!scene.running.contains(&pod));
    }
    assert_eq!(ended, 100);
    assert!(scene.asked <= 3 * 100, "{} requests", scene.asked);
    assert_eq!(scene.names(), [] as [String; 0], "nobody waits");
}

#[tokio::test(start_paused = true)]
async fn all_come_in_when_there_is_room_at_last() {
    let mut scene = Scene::new(0);
    for index in 0..100 {
        scene.launch(&format!("pod-{index:03}"), 1);
    }
    scene.room = 100;
    scene.pass(2).await;
    assert_eq!(scene.running.len(), 100);
    assert_eq!(scene.asked, 101);
    assert_eq!(scene.names(), [] as [String; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_asks_for_less_need_not_wait() {
    let mut scene = Scene::new(0);
    scene.launch("large", 8);
    scene.room = 1;
    assert!(!scene.launch("as-large", 8) && scene.asked == 1);
    assert!(scene.launch("small", 7));
}

#[tokio::test(start_paused = true)]
async fn permits_that_nobody_uses_are_handed_on() {
    let mut scene = Scene::new(0);
    let gone = Scene {
        calls: Arc::default(),
        ..Scene::new(0)
    };
    let demands = Amounts::from([("pods".to_owned(), 1)]);
    for index in 0..1_000 {
        let pod = format!("gone-{index}");
        let request = Request {
            namespace: NAMESPACE,
            pod: &pod,
            demands: &demands,
            inbox: &gone.calls,
        };
        match scene.waiting.admit(request) {
            Admission::Try(permit) => permit.refused(request, demands.clone()),
            Admission::Wait(until) => assert!(until > scene.clock.now()),
        }
    }
    let unwanted: Vec<_> = (0..3).map(|index| format!("unwanted-{index}")).collect();
    for pod in &unwanted {
        scene.launch(pod, 1);
    }
    scene.launch("wanted", 1);
    drop(gone);
    scene.room = 1;
    scene.waiting.freed(NAMESPACE);
    loop {
        let called = scene.calls.take();
        let unwanted: Vec<_> = called.iter().filter(|pod| *pod != "wanted").collect();
        if unwanted.is_empty() {
            assert_eq!(called, BTreeSet::from(["wanted".to_owned()]));
            break;
        }
        scene.calls.keep(|pod| pod == "wanted");
    }
    assert!(scene.launch("wanted", 1));
    assert_eq!(scene.names(), [] as [String; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_in_trouble_of_its_own_lets_others_pass() {
    let mut scene = Scene::new(0);
    for pod in ["a", "b", "c"] {
        scene.launch(pod, 1);
    }
    scene.room = 1;
    scene.waiting.freed(NAMESPACE);
    assert_eq!(scene.calls.take(), BTreeSet::from(["a".to_owned()]));
    let demands = Amounts::new();
    let calls = scene.calls.clone();
    let request = Request {
        namespace: NAMESPACE,
        pod: "a",
        demands: &demands,
        inbox: &calls,
    };
    let Admission::Try(permit) = scene.waiting.admit(request) else {
        panic!("it was called")
    };
    drop(permit);
    assert_eq!(scene.calls.take(), BTreeSet::from(["b".to_owned()]));
    assert!(scene.launch("b", 1));
    // In the end it comes through as well, and so do the others.
    let Admission::Try(permit) = scene.waiting.admit(request) else {
        panic!("there is quota since another was created")
    };
    permit.created();
    scene.room = 2;
    scene.answer_calls();
    assert!(scene.running.contains("c"));
    assert_eq!(scene.names(), [] as [String; 0]);
}
