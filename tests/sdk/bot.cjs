// A bot with the official Node.js client, as its users write one: `node bot.cjs CHANNEL FIRST COUNT [BYTES]`.
const sdk = require('@botanalytics/core');

const [, , channel, first, count, bytes = '0'] = process.argv;
const filler = Buffer.from(Array.from({ length: Number(bytes) }, () => Math.random() * 256)).toString('base64');

/** Sends one message of the channel with a number in it, through the client's own door. */
async function say(client, n) {
  const text = `${channel}-node-${n} ${filler}`;
  switch (channel) {
    case 'universal':
      return client.logMessages({ timestamp: Date.now(), content: { texts: [{ text }] } });
    case 'facebook-messenger':
      return client.logWebhookMessages({ object: 'page', entry: [{ id: 'page', time: Date.now(), messaging: [{ message: { mid: `m${n}`, text } }] }] });
    case 'amazon-alexa':
      // Its doors do not wait, so that what is sent is waited for here.
      return sent(client, () => client.requestInterceptor().process({ requestEnvelope: { version: '1.0', request: { type: 'IntentRequest', requestId: text, timestamp: new Date().toISOString() } } }));
    case 'microsoft-bot-framework': {
      const context = { activity: { type: 'message', id: text, text }, onSendActivities() {}, onUpdateActivity() {}, onDeleteActivity() {} };
      return sent(client, () => client.middleware().onTurn(context, async () => {}));
    }
    default:
      throw new Error(`no such channel: ${channel}`);
  }
}

async function sent(client, act) {
  const send = client._sendMessages;
  let sending;
  client._sendMessages = function (...messages) { sending = send.apply(this, messages); return sending; };
  await act();
  await sending;
  client._sendMessages = send;
}

const clients = {
  universal: sdk.UniversalClient,
  'facebook-messenger': sdk.FacebookMessengerClient,
  'amazon-alexa': sdk.AmazonAlexaClient,
  'microsoft-bot-framework': sdk.MicrosoftBotFrameworkClient,
};

(async () => {
  const client = new clients[channel]();
  for (let n = Number(first); n < Number(first) + Number(count); n += 1) {
    await say(client, n);
    console.log(n);
  }
})();
