//! Going away, coming back, ending.

use std::io::ErrorKind;
use std::net::TcpStream;

use everpost::sandbox::{Fault, Sandbox, Stopped};

use super::raw::{Client, batch, post, send};

fn refused(sandbox: &Sandbox) -> bool {
    let tried = TcpStream::connect(sandbox.address());
    tried.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn while_it_is_away_connections_are_refused_and_its_port_is_kept() {
    let sandbox = Sandbox::start().await.unwrap();
    let url = sandbox.base_url().to_owned();
    for round in ["a", "b", "c"] {
        let mut client = Client::connect(&sandbox).await;
        let body = batch(&[round]);
        assert_eq!(client.ask(post(&sandbox, &body)).await.status, 200);
        sandbox.go_away().await.unwrap();
        sandbox.go_away().await.unwrap();
        assert!(refused(&sandbox));
        assert_eq!(client.read_to_end().await.0, "", "open connections are cut");
        sandbox.come_back().await.unwrap();
        sandbox.come_back().await.unwrap();
        assert_eq!(sandbox.base_url(), url);
    }
    assert_eq!(send(&sandbox, &batch(&["d"])).await.status, 200);
    sandbox.check_order(["a", "b", "c", "d"]).unwrap();
}

#[tokio::test]
async fn nobody_else_is_given_the_port_while_it_is_away() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.go_away().await.unwrap();
    // Unlike a listener, a bare socket does not ask to share its port with unused ones.
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    let error = other.bind(sandbox.address()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    sandbox.come_back().await.unwrap();
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 200);
}

#[tokio::test]
async fn going_away_cuts_a_request_that_hangs() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.always(Fault::Hang);
    let mut client = Client::connect(&sandbox).await;
    client.write(post(&sandbox, &batch(&["a"]))).await;
    sandbox.wait_for(|stats| stats.hanging == 1).await.unwrap();
    sandbox.go_away().await.unwrap();
    assert_eq!(sandbox.stats().hanging, 0);
    assert_eq!(client.read_to_end().await.0, "");
    assert_eq!(sandbox.stats().accepted, 0);
}

#[tokio::test]
async fn its_end_closes_the_port_which_can_be_used_again() {
    let sandbox = Sandbox::start().await.unwrap();
    let address = sandbox.address();
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 200);
    let mut client = Client::connect(&sandbox).await;
    sandbox.stop().await;
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(client.read_to_end().await.0, "");

    let sandbox = Sandbox::builder()
        .port(address.port())
        .start()
        .await
        .unwrap();
    assert_eq!(sandbox.address(), address);
    let taken = Sandbox::builder().port(address.port()).start().await;
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(send(&sandbox, &batch(&["a"])).await.status, 200);
}

#[tokio::test]
async fn dropping_it_ends_it() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut client = Client::connect(&sandbox).await;
    client.write("POST ").await;
    sandbox.wait_for(|stats| stats.requests == 1).await.unwrap();
    let address = sandbox.address();
    drop(sandbox);
    client.read_to_end().await;
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn a_panic_in_a_rule_surfaces() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.reject_when(|_| panic!("the rule is wrong"));
    let mut client = Client::connect(&sandbox).await;
    client.write(post(&sandbox, &batch(&["a"]))).await;
    assert_eq!(sandbox.wait_for_accepted(1).await, Err(Stopped));
    assert!(sandbox.go_away().await.is_err());
    assert!(sandbox.come_back().await.is_err());
    let panic = tokio::spawn(sandbox.stop()).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref(), Some(&"the rule is wrong"));
}

#[test]
fn starting_it_outside_of_a_runtime_is_an_error() {
    assert!(pollster::block_on(Sandbox::start()).is_err());
}
