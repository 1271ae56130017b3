// An agent: runs one SQL statement with Google's Node client and prints its rows as JSON.
//
// It knows nothing of a proxy or a record; its token comes from the environment, as in a pod.
const { BigQuery } = require('@google-cloud/bigquery');
const { OAuth2Client } = require('google-auth-library');

async function main() {
  const authClient = new OAuth2Client();
  authClient.setCredentials({ access_token: process.env.CLOUDSDK_AUTH_ACCESS_TOKEN });
  const bigquery = new BigQuery({ projectId: process.env.GOOGLE_CLOUD_PROJECT, authClient });
  const [rows] = await bigquery.query(process.argv[2]);
  console.log(JSON.stringify(rows));
}

main().catch((error) => {
  console.error(`${error.name}: ${error.message}`);
  process.exitCode = 1;
});
