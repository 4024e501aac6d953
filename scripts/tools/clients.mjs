// Node libraries in one conversation with tool calls: `clients.mjs NAME plain|stream` prints an answer to each line.
// Key, URL and model come from OPENAI_API_KEY, OPENAI_BASE_URL and OPENAI_MODEL.
// TOOLS is the folder whose node_modules has the tools.
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { OPENAI_API_KEY: apiKey, OPENAI_BASE_URL: baseURL, OPENAI_MODEL: model, KEY_COMMAND, TOOLS } = process.env;
const prompts = createInterface({ input: process.stdin });
const description = "Look at a place.";
const look = ({ place }) => `${place} is green`;
const [program, ...words] = KEY_COMMAND?.split(" ") ?? [];
const key = program ? async () => execFileSync(program, words, { encoding: "utf8" }).trim() : apiKey;
const { resolve } = createRequire(`${TOOLS}/package.json`);
const load = (name) => import(pathToFileURL(resolve(name)));

async function openaiNode(stream) {
  const { default: OpenAI } = await load("openai");
  const client = new OpenAI({ apiKey: key, maxRetries: 0 });
  const parameters = { type: "object", properties: { place: { type: "string" } } };
  const tools = [{ type: "function", function: { name: "look", description, parameters } }];
  const messages = [];
  for await (const content of prompts) {
    messages.push({ role: "user", content });
    for (;;) {
      const asked = { model, messages, tools };
      const answer = stream
        ? await client.chat.completions.stream(asked).finalChatCompletion()
        : await client.chat.completions.create(asked);
      const message = answer.choices[0].message;
      messages.push(message);
      if (!message.tool_calls?.length) {
        console.log(message.content);
        break;
      }
      for (const call of message.tool_calls) {
        messages.push({ role: "tool", tool_call_id: call.id, content: look(JSON.parse(call.function.arguments)) });
      }
    }
  }
}

async function langchain(stream) {
  const { ChatOpenAI } = await load("@langchain/openai");
  const { HumanMessage, ToolMessage } = await load("@langchain/core/messages");
  const { tool } = await load("@langchain/core/tools");
  const { z } = await load("zod");
  const tools = [tool(look, { name: "look", description, schema: z.object({ place: z.string() }) })];
  const chat = new ChatOpenAI({ model, apiKey: key, configuration: { baseURL }, maxRetries: 0 }).bindTools(tools);
  const messages = [];
  for await (const prompt of prompts) {
    messages.push(new HumanMessage(prompt));
    for (;;) {
      let answer;
      if (stream) for await (const chunk of await chat.stream(messages)) answer = answer ? answer.concat(chunk) : chunk;
      else answer = await chat.invoke(messages);
      messages.push(answer);
      if (!answer.tool_calls?.length) {
        console.log(answer.text ?? answer.content);
        break;
      }
      for (const call of answer.tool_calls) {
        messages.push(new ToolMessage({ content: look(call.args), tool_call_id: call.id }));
      }
    }
  }
}

const aiSdk = (provider) => async (stream) => {
  const { generateText, streamText, stepCountIs, tool } = await load("ai");
  const { z } = await load("zod");
  const tools = { look: tool({ description, inputSchema: z.object({ place: z.string() }), execute: look }) };
  const chat = await provider();
  const messages = [];
  for await (const content of prompts) {
    messages.push({ role: "user", content });
    const asked = { model: chat, messages, tools, stopWhen: stepCountIs(5), maxRetries: 0 };
    let result;
    if (stream) {
      result = streamText({ ...asked, onError: ({ error }) => { throw error; } });
      await result.consumeStream({ onError: (error) => { throw error; } });
    } else result = await generateText(asked);
    messages.push(...(await result.response).messages);
    console.log(await result.text);
  }
};

async function openaiAgents(stream) {
  const { Agent, run, setDefaultOpenAIClient, setOpenAIAPI, tool } = await load("@openai/agents");
  const { default: OpenAI } = await load("openai");
  const { z } = await load("zod");
  setOpenAIAPI("chat_completions");
  setDefaultOpenAIClient(new OpenAI({ apiKey: key, maxRetries: 0 }));
  const places = tool({ name: "look", description, parameters: z.object({ place: z.string() }), execute: look });
  const agent = new Agent({ name: "agent", model, tools: [places] });
  let history = [];
  for await (const content of prompts) {
    const result = await run(agent, [...history, { role: "user", content }], { stream });
    if (stream) await result.completed;
    history = result.history;
    console.log(result.finalOutput);
  }
}

async function mastra(stream) {
  const { Agent } = await load("@mastra/core/agent");
  const { createTool } = await load("@mastra/core/tools");
  const { z } = await load("zod");
  const tool = createTool({ id: "look", description, inputSchema: z.object({ place: z.string() }), execute: look });
  const chat = { providerId: "vertex", modelId: model, url: baseURL, apiKey };
  const agent = new Agent({ id: "a", name: "agent", instructions: "Be kind.", model: chat, tools: { look: tool } });
  const messages = [];
  for await (const content of prompts) {
    messages.push({ role: "user", content });
    const options = { maxSteps: 5, modelSettings: { maxRetries: 0 } };
    const result = await (stream ? agent.stream(messages, options) : agent.generate(messages, options));
    const text = await result.text;
    messages.push({ role: "assistant", content: text });
    console.log(text);
  }
}

async function genkitOpenAI(stream) {
  const { genkit, z } = await load("genkit");
  const { openAICompatible, compatOaiModelRef, defineCompatOpenAIModel } = await load("@genkit-ai/compat-oai");
  const name = `vertex/${model}`;
  const initializer = async (client) => [
    defineCompatOpenAIModel({ name, client, modelRef: compatOaiModelRef({ name }) }),
  ];
  const ai = genkit({ plugins: [openAICompatible({ name: "vertex", apiKey, baseURL, maxRetries: 0, initializer })] });
  const schemas = { inputSchema: z.object({ place: z.string() }), outputSchema: z.string() };
  const tools = [ai.defineTool({ name: "look", description, ...schemas }, async (input) => look(input))];
  let messages = [];
  for await (const prompt of prompts) {
    const asked = { model: name, messages, prompt, tools };
    const response = await (stream ? ai.generateStream(asked).response : ai.generate(asked));
    messages = response.messages;
    console.log(response.text);
  }
}

async function llamaindex(stream) {
  const { tool } = await load("llamaindex");
  const { OpenAI } = await load("@llamaindex/openai");
  const { z } = await load("zod");
  const llm = new OpenAI({ model, apiKey, baseURL, maxRetries: 0 });
  const tools = [tool({ name: "look", description, parameters: z.object({ place: z.string() }), execute: look })];
  const messages = [];
  for await (const content of prompts) {
    messages.push({ role: "user", content });
    for (;;) {
      const result = await llm.exec({ messages, tools, stream });
      let text = "";
      if (stream) for await (const chunk of result.stream) text += chunk.delta;
      messages.push(...(stream ? result.newMessages() : result.newMessages));
      if (result.toolCalls.length) continue;
      console.log(stream ? text : messages.at(-1).content);
      break;
    }
  }
}

const clients = {
  openai: openaiNode,
  "@langchain/openai": langchain,
  "@ai-sdk/openai": aiSdk(async () => (await load("@ai-sdk/openai")).createOpenAI({ apiKey, baseURL }).chat(model)),
  "@ai-sdk/openai-compatible": aiSdk(async () =>
    (await load("@ai-sdk/openai-compatible")).createOpenAICompatible({ name: "vertex", apiKey, baseURL })(model)),
  "@openai/agents": openaiAgents,
  "@mastra/core": mastra,
  "@genkit-ai/compat-oai": genkitOpenAI,
  "@llamaindex/openai": llamaindex,
};

await clients[process.argv[2]](process.argv[3] === "stream");
