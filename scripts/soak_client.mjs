// A stock openai Node client, built once; it knows nothing of gateways. Arguments: requests, seconds, lanes, retries.
import { createRequire } from "node:module";
const { OpenAI } = createRequire(process.cwd() + "/")("openai");
const [total, seconds, lanes, maxRetries] = process.argv.slice(2).map(Number);
const messages = [{ role: "user", content: "Say hello. emulator: chunks=6 delay=0.01" }];
const client = new OpenAI({ maxRetries });
const answers = {}, broken = {};

const count = (what, name) => { what[name] = (what[name] ?? 0) + 1; };

async function ask(number) {
  const stream = number % 3 === 0;
  const answer = await client.chat.completions.create({ model: "gemini-2.5-flash", messages, stream });
  let done, text = "";
  if (stream) {
    for await (const { choices: [choice] } of answer) {
      text += choice?.delta.content ?? "";
      done = choice?.finish_reason ?? done;
    }
  } else {
    done = answer.choices[0].finish_reason;
    text = answer.choices[0].message.content;
  }
  count(answers, 200);
  if (done !== "stop" || !text.startsWith("Hello")) throw new Error("not whole");
}

const started = performance.now();
async function lane(first) {
  for (let number = first; number < total; number += lanes) {
    const due = started + (number * seconds * 1000) / total;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
    try {
      await ask(number);
    } catch (error) {
      if (error.status) count(answers, error.status);
      else count(broken, `${error.message} ${error.cause?.cause ?? error.cause ?? ""}`.slice(0, 300));
    }
  }
}
await Promise.all(Array.from({ length: lanes }, (_, first) => lane(first)));
console.log(JSON.stringify({ client: "openai-node", answers, broken }));
