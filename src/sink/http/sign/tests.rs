use std::time::{Duration, UNIX_EPOCH};

use super::*;

/// The vector that the libraries of Standard Webhooks test against
/// (<https://github.com/standard-webhooks/standard-webhooks>, `libraries/`).
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const AT: u64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SIGNED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn keys(text: &str) -> Result<SigningKeys, SecretError> {
    SigningKeys::read(SecretString::from(text))
}

fn signed(keys: &[SigningKeys]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let now = UNIX_EPOCH + Duration::from_millis(AT * 1_000 + 999);
    sign(keys, ID, now, BODY, &mut headers).then_some(headers)
}

#[test]
fn the_vector_of_the_specification_is_signed_as_it_says() {
    let headers = signed(&[keys(SECRET).unwrap()]).unwrap();
    assert_eq!(headers["webhook-id"], ID);
    assert_eq!(headers["webhook-timestamp"], "1614265330");
    assert_eq!(headers["webhook-signature"], SIGNED);
}

#[test]
fn each_secret_signs_while_one_takes_the_place_of_another() {
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let together = keys(&format!("{other}\n {SECRET}\n")).unwrap();
    let apart = [keys(other).unwrap(), keys(SECRET).unwrap()];
    let [together, apart] = [signed(&[together]), signed(&apart)].map(Option::unwrap);
    assert_eq!(together, apart);
    let signatures = together["webhook-signature"].to_str().unwrap();
    let signatures: Vec<_> = signatures.split(' ').collect();
    assert_eq!(signatures.len(), 2);
    assert_eq!(signatures[1], SIGNED);
    assert_ne!(signatures[0], SIGNED);
}

#[test]
fn what_is_no_secret_is_refused_without_being_repeated() {
    for text in [
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_hunter2",
        "whsec_!!!!",
        "whsec_",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw hunter2",
    ] {
        let error = keys(text).unwrap_err();
        assert_eq!(error, SecretError::NotForSigning, "{text}");
        assert!(!error.to_string().contains("hunter2"));
    }
    assert_eq!(keys(" \n").unwrap_err(), SecretError::Empty);
    assert!(signed(&[]).is_none(), "nothing is sent unsigned");
}
