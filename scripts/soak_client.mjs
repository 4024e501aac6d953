// A stock openai Node client, built once; it knows nothing of gateways. Arguments: requests, seconds, lanes.
import { createRequire } from "node:module";
const { OpenAI } = createRequire(process.cwd() + "/")("openai");
const [total, seconds, lanes] = process.argv.slice(2).map(Number);
const messages = [{ role: "user", content: "Say hello. emulator: chunks=6 delay=0.01" }];
const client = new OpenAI();
const failures = {};

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
      const name = `${error.constructor.name}: ${error.message}`.slice(0, 300);
      failures[name] = (failures[name] ?? 0) + 1;
    }
  }
}
await Promise.all(Array.from({ length: lanes }, (_, first) => lane(first)));
console.log(JSON.stringify({ requests: total, failures }));
