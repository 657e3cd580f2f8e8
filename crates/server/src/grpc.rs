//! SCC's gRPC form: the same methods as protobuf over HTTP/2.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::Grpc;

use crate::app::{App, Peer};
use crate::limits::{BODY_BYTES_MAX, REQUEST_TIMEOUT};
use crate::methods::{METHODS, Method};
use crate::schema;
use crate::status::{Code, Status};

/// Largest answer: far above the largest page of findings, `store::PAGE_BYTES_MAX`. Clients set their own, lower limit (4 MiB unless told otherwise).
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Answers a call to `/SERVICE/METHOD`.
pub(crate) async fn handle(State(app): State<App>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let wanted = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    let method = METHODS
        .iter()
        .find(|method| Some((method.service, method.name)) == wanted);
    let peer = Peer::of(request.extensions());
    // Authentication comes before anything is read or told.
    let caller = match app.authenticate(request.headers(), peer).await {
        Ok(caller) => caller,
        Err(status) => {
            return to_tonic(&status)
                .into_http::<tonic::body::Body>()
                .into_response();
        }
    };
    let Some(method) = method else {
        let status = Status::new(Code::Unimplemented, format!("{path} is not offered."));
        return to_tonic(&status)
            .into_http::<tonic::body::Body>()
            .into_response();
    };
    let call = tower::service_fn(move |request: tonic::Request<DynamicMessage>| {
        let app = app.clone();
        let caller = caller.clone();
        async move {
            let called = app.call(method, caller, request.into_inner(), schema::build);
            match called.await {
                Ok(answer) => Ok(tonic::Response::new(answer)),
                Err(status) => Err(to_tonic(&status)),
            }
        }
    });
    let mut grpc = Grpc::new(DynamicCodec(method))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(BODY_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    match tokio::time::timeout(REQUEST_TIMEOUT, grpc.unary(call, request)).await {
        Ok(response) => response.into_response(),
        Err(_) => tonic::Status::deadline_exceeded("the call took longer than the server allows")
            .into_http::<tonic::body::Body>()
            .into_response(),
    }
}

fn to_tonic(status: &Status) -> tonic::Status {
    let code = tonic::Code::from_i32(status.code.number());
    let details = schema::build(schema::message("google.rpc.Status"), status.to_value())
        .map(|status| status.encode_to_vec())
        .unwrap_or_default();
    tonic::Status::with_details(code, &status.message, details.into())
}

/// Messages of one method, read and written by their descriptors.
struct DynamicCodec(&'static Method);

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = DynamicEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> DynamicEncoder {
        DynamicEncoder
    }

    fn decoder(&mut self) -> DynamicDecoder {
        DynamicDecoder(schema::message(&self.0.request()))
    }
}

struct DynamicEncoder;

impl Encoder for DynamicEncoder {
    type Item = DynamicMessage;
    type Error = tonic::Status;

    fn encode(
        &mut self,
        item: DynamicMessage,
        dst: &mut EncodeBuf<'_>,
    ) -> Result<(), tonic::Status> {
        item.encode(dst)
            .map_err(|error| tonic::Status::internal(error.to_string()))
    }
}

struct DynamicDecoder(MessageDescriptor);

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = tonic::Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, tonic::Status> {
        DynamicMessage::decode(self.0.clone(), src)
            .map(Some)
            .map_err(|error| tonic::Status::invalid_argument(error.to_string()))
    }
}
